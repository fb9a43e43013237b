// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
)

func TestTheCacheOfNodesHoldsNeitherManagedFieldsNorImages(t *testing.T) {
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"b": "c"}}}
	node.Status.NodeInfo.SystemUUID = "d"
	want := node.DeepCopy()
	node.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}
	node.Status.Images = []v1.ContainerImage{{Names: []string{"e"}, SizeBytes: 1}}

	factory := informers.NewSharedInformerFactory(fake.NewClientset(node), 0)
	trimCaches(factory)
	nodes := factory.Core().V1().Nodes().Informer()
	factory.Start(t.Context().Done())
	t.Cleanup(factory.Shutdown)
	if !cache.WaitForCacheSync(t.Context().Done(), nodes.HasSynced) {
		t.Fatal("the cache is not filled")
	}
	if diff := cmp.Diff([]any{want}, nodes.GetStore().List()); diff != "" {
		t.Errorf("the cache holds (-want +got):\n%s", diff)
	}
}
