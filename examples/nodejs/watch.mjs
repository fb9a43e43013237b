// This Source Code Form is subject to the terms of the Mozilla Public
// License, v. 2.0. If a copy of the MPL was not distributed with this
// file, You can obtain one at https://mozilla.org/MPL/2.0/.

// Prints each instance of the project, and then each change, as a line of JSON. It knows nothing of the
// backend but its .proto files, which are in each release (oxide-backend-api-…-protos.tar.gz):
//
//   npm ci && node watch.mjs PROTOS SOCKET [NAME…]
//
// With names it asks for these instances first, and shows what an error is made of. PROTOS is the folder
// of the .proto files, SOCKET the backend's unix socket.
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const [protos, socket, ...names] = process.argv.slice(2);
if (!socket) {
  console.error('usage: node watch.mjs PROTOS SOCKET [NAME…]');
  process.exit(2);
}
const { oxide, google } = grpc.loadPackageDefinition(loadSync([
  'oxide/backend/v1/instance_service.proto', 'google/rpc/status.proto', 'google/rpc/error_details.proto',
], { includeDirs: [protos], keepCase: true, enums: String, longs: Number, oneofs: true, defaults: true }));

const service = new oxide.backend.v1.InstanceService(`unix:${socket}`, grpc.credentials.createInsecure(), {
  // By default the pauses between attempts to connect grow to two minutes.
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1000,
});

const print = (line) => console.log(JSON.stringify(line));

// decode returns a message of a type that was loaded.
const decode = (type, bytes) => type.deserialize(bytes);

// reasonOf returns why a call failed: the reason and the delay that the backend has put beside the status.
function reasonOf(error) {
  const found = { code: grpc.status[error.code], message: error.details };
  for (const bytes of error.metadata?.get('grpc-status-details-bin') ?? []) {
    for (const detail of decode(google.rpc.Status, bytes).details) {
      const name = detail.type_url.split('/').pop();
      if (name === 'google.rpc.ErrorInfo') {
        const info = decode(google.rpc.ErrorInfo, detail.value);
        if (info.domain === 'oxide.computer') found.reason = info.reason;
      } else if (name === 'google.rpc.RetryInfo') {
        const { seconds, nanos } = decode(google.rpc.RetryInfo, detail.value).retry_delay;
        found.retryAfterSeconds = seconds + nanos / 1e9;
      }
    }
  }
  return found;
}

function get(name) {
  return new Promise((done) => {
    const options = { deadline: Date.now() + 20_000 };
    service.GetInstance({ name }, options, (error, answer) => {
      print(error ? { name, error: reasonOf(error) } : { name, id: answer.instance.id });
      done();
    });
  });
}

// watch follows the instances for good, over as many streams as it takes.
function watch() {
  const stream = service.WatchInstances({});
  stream.on('data', (event) => {
    switch (event.event) {
      case 'instance': {
        const { name, run_state: state, network_interfaces: nics } = event.instance;
        print({ name, state, addresses: nics.flatMap((nic) => nic.addresses) });
        break;
      }
      case 'snapshot_complete':
        print({ synced: true });
        break;
      case 'no_longer_listed_id': // a hint, and no proof that it is gone
        print({ noLongerListed: event.no_longer_listed_id });
        break;
      default: // a newer backend sends more
    }
  });
  stream.on('error', (error) => {
    const found = reasonOf(error);
    print({ error: found });
    setTimeout(watch, 1000 * (found.retryAfterSeconds ?? 1));
  });
}

for (const name of names) await get(name);
watch();
