// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

package shim

import (
	v1 "k8s.io/api/core/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
)

// trimCaches keeps out of the cache of Nodes what nobody here reads, the framework included: who
// wrote which of the fields, and the images on a Node, which are most of it. What is written from a
// cached Node is a patch of what differs from it, or an update of its labels, taints and spec: the
// API server keeps the managed fields that an update leaves out, and the status. Of a Service we do
// read who wrote it.
func trimCaches(factory informers.SharedInformerFactory) {
	// Only an informer that has been started refuses.
	utilruntime.Must(factory.Core().V1().Nodes().Informer().SetTransform(trimNode))
}

func trimNode(object any) (any, error) {
	if node, ok := object.(*v1.Node); ok {
		node.ManagedFields, node.Status.Images = nil, nil
	}
	return object, nil
}
