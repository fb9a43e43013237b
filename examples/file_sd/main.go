// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Command file_sd has Prometheus discover the instances of a project: it keeps a file for
// file_sd_configs.
//
//	file_sd --port 9100 --output /etc/prometheus/oxide.json
//
// The file is written when all instances are known, and then whenever it differs. While the backend or
// Oxide does not answer it stays as it is: an instance that is not seen is not one that is gone.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/oxidecomputer/oxide-cloud-controller-manager/proto/client"
	backendv1 "github.com/oxidecomputer/oxide-cloud-controller-manager/proto/oxide/backend/v1"
)

// group is one entry of the file.
type group struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func main() {
	socket := flag.String("socket", "/run/oxide/backend/backend.sock", "the backend's unix socket")
	port := flag.Int("port", 9100, "the port that Prometheus is to scrape")
	output := flag.String("output", "oxide.json", "the file to write")
	flag.Parse()
	conn, err := client.Dial(*socket)
	if err != nil {
		log.Fatal("file_sd: ", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	// Written once for all that has changed meanwhile, and not before all instances are known.
	changed, synced := make(chan struct{}, 1), false
	mark := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	watch := client.NewInstanceWatch(client.InstanceWatchConfig{
		Service: backendv1.NewInstanceServiceClient(conn),
		Synced: func() {
			synced = true
			mark()
		},
		Changed: func(string) {
			if synced {
				mark()
			}
		},
		Disconnected: func(err error) { log.Print(err) },
	})
	go watch.Run(ctx)
	var last []byte
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		text, err := json.MarshalIndent(groups(watch.Instances(), *port), "", "  ")
		if err == nil && !bytes.Equal(text, last) {
			err = replace(*output, append(text, '\n'))
		}
		if err != nil {
			log.Fatal("file_sd: ", err)
		}
		last = text
	}
}

// groups returns an entry for each instance that has an address and is not shut down.
func groups(instances []*backendv1.Instance, port int) []group {
	all := []group{} // not nil: Prometheus wants a list, also of nothing
	for _, instance := range instances {
		nics := instance.GetNetworkInterfaces()
		if instance.GetShutDown() || len(nics) == 0 || len(nics[0].GetAddresses()) == 0 {
			continue
		}
		const meta = "__meta_oxide_instance_"
		all = append(all, group{
			Targets: []string{net.JoinHostPort(nics[0].GetAddresses()[0], strconv.Itoa(port))},
			Labels: map[string]string{
				meta + "id": instance.GetId(), meta + "name": instance.GetName(),
				meta + "state":   instance.GetRunStateText(),
				meta + "project": instance.GetProjectName(),
				// With a comma at both ends, as Prometheus has lists.
				meta + "groups": "," + strings.Join(instance.GetAntiAffinityGroups(), ",") + ",",
			},
		})
	}
	return all
}

// replace writes a file so that a reader sees the old one or the new one.
func replace(file string, text []byte) error {
	next, err := os.CreateTemp(filepath.Dir(file), ".file_sd-*")
	if err != nil {
		return err
	}
	defer os.Remove(next.Name())
	if _, err := next.Write(text); err != nil {
		return err
	}
	if err := next.Chmod(0o644); err != nil {
		return err
	}
	if err := next.Close(); err != nil {
		return err
	}
	return os.Rename(next.Name(), file)
}
