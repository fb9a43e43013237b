// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command importer stands for the programs of others that import the API: it has versions of
// Kubernetes and gRPC of its own, in go.mod, which importing the API must not raise. It lists the
// instances of a backend as objects of Kubernetes.
//
// `make verify` builds it with these versions; nothing else needs it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"google.golang.org/grpc"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: importer SOCKET")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "importer:", client.AsError(err))
		os.Exit(1)
	}
}

func run(ctx context.Context, socket string) error {
	conn, err := client.Dial(socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	return list(ctx, conn)
}

func list(ctx context.Context, conn grpc.ClientConnInterface) error {
	list, err := backendv1.NewInstanceServiceClient(conn).ListInstances(ctx,
		new(backendv1.ListInstancesRequest))
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for _, instance := range list.GetInstances() {
		object := metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Name: instance.GetName(), UID: types.UID(instance.GetId()),
		}}
		if err := out.Encode(object); err != nil {
			return err
		}
	}
	return nil
}
