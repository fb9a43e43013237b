// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package loadbalancers

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// podPatience is how long is waited for the pods at the start. They only tell which ports are taken,
// so without them things go on.
const podPatience = 10 * time.Second

// podCache has the pods that are in the network of their Nodes, as much as is needed of them.
type podCache struct {
	followed atomic.Pointer[followedPods]
}

type followedPods struct {
	lister corelisters.PodLister
	synced cache.InformerSynced
	// patience ends when there has been enough waiting, and impatient tells once that it has.
	patience  context.Context //nolint:containedctx // it begins once, with the informer
	impatient sync.Once
}

// follow starts to follow the pods, until the context ends.
func (p *podCache) follow(ctx context.Context, client kubernetes.Interface) {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = "spec.hostNetwork=true"
		}),
		informers.WithTransform(trimPod))
	pods := factory.Core().V1().Pods()
	patience, cancel := context.WithTimeout(ctx, podPatience)
	context.AfterFunc(ctx, cancel)
	p.followed.Store(&followedPods{
		lister: pods.Lister(), synced: pods.Informer().HasSynced, patience: patience,
	})
	factory.Start(ctx.Done())
}

// list returns the pods; none if they are not followed, or could not be read in time.
func (p *podCache) list(ctx context.Context) []*v1.Pod {
	followed := p.followed.Load()
	if followed == nil {
		return nil
	}
	if !followed.synced() {
		waitCtx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(followed.patience, cancel)()
		if !cache.WaitForCacheSync(waitCtx.Done(), followed.synced) {
			if ctx.Err() == nil {
				followed.impatient.Do(tellImpatience)
			}
			return nil
		}
	}
	pods, err := followed.lister.List(labels.Everything())
	if err != nil {
		klog.ErrorS(err, "Cannot list the pods in their Nodes' networks")
	}
	return pods
}

func tellImpatience() {
	klog.InfoS("The pods in their Nodes' networks could not be read so far: load balancers may be given " +
		"ports that these use; allow \"list\" and \"watch\" on pods, and note that Kubernetes before " +
		"1.28 cannot select these pods")
}

// trimPod keeps of a pod what is needed to know its ports.
func trimPod(object any) (any, error) {
	pod, ok := object.(*v1.Pod)
	if !ok {
		return object, nil
	}
	trimmed := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Labels: pod.Labels,
			ResourceVersion: pod.ResourceVersion,
		},
		Spec: v1.PodSpec{
			NodeName: pod.Spec.NodeName, HostNetwork: pod.Spec.HostNetwork,
			Containers: ports(pod.Spec.Containers), InitContainers: ports(pod.Spec.InitContainers),
		},
		Status: v1.PodStatus{Phase: pod.Status.Phase},
	}
	return trimmed, nil
}

func ports(containers []v1.Container) []v1.Container {
	var trimmed []v1.Container
	for _, container := range containers {
		if len(container.Ports) > 0 {
			trimmed = append(trimmed, v1.Container{Name: container.Name, Ports: container.Ports})
		}
	}
	return trimmed
}
