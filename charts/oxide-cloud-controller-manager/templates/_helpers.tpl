{{- define "ccm.name" -}}
{{- default .Chart.Name .Values.name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "ccm.fullname" -}}
{{- $name := include "ccm.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "ccm.selectorLabels" -}}
app.kubernetes.io/name: {{ include "ccm.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ccm.labels" -}}
{{ include "ccm.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: cloud-controller-manager
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Labels and annotations of an object. With a dict of root, labels and annotations: those besides, which win. */ -}}
{{- define "ccm.meta" -}}
{{- $root := .root | default . -}}
{{- $own := hasKey . "root" -}}
{{- $labels := merge (dict) (($own | ternary .labels nil) | default dict) ($root.Values.commonLabels | default dict) -}}
{{- $annotations := merge (dict) (($own | ternary .annotations nil) | default dict) ($root.Values.commonAnnotations | default dict) -}}
labels:
  {{- include "ccm.labels" $root | nindent 2 }}
  {{- with $labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "ccm.image" -}}
{{- with .Values.deployment.image -}}
{{- if not (regexMatch "^([^\\s/:@]+(:[0-9]+)?)?$" .registry) -}}
{{- fail (printf "deployment.image.registry is %q: give the registry's host, and its port if it has one, as in registry.example.com:5000; a path in it belongs to deployment.image.name" .registry) -}}
{{- end -}}
{{- if and (eq $.Values.deployment.imagePullPolicy "Always") (include "ccm.registryIsMissing" $) -}}
{{- fail (printf "deployment.image.registry is empty, and deployment.imagePullPolicy is Always: the image %s would be pulled from the default registry of the nodes, where it is not; set deployment.image.registry to the host that you pushed it to, or the policy to IfNotPresent if you load it on the nodes" .name) -}}
{{- end -}}
{{- $name := .name -}}
{{- if .registry -}}
{{- $name = printf "%s/%s" .registry .name -}}
{{- end -}}
{{- if .digest -}}
{{- printf "%s@%s" $name .digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* true when neither the registry is given nor the name begins with one, by the rule that container runtimes have. */ -}}
{{- define "ccm.registryIsMissing" -}}
{{- with .Values.deployment.image -}}
{{- $first := first (splitList "/" .name) -}}
{{- if not (or .registry (and (contains "/" .name) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")))) -}}
true
{{- end -}}
{{- end -}}
{{- end }}

{{- /* Refuses labels that the chart gives itself: one of them twice is no valid object. */ -}}
{{- define "ccm.checkLabels" -}}
{{- $own := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/component" "app.kubernetes.io/managed-by" "helm.sh/chart" -}}
{{- $given := dict "commonLabels" .Values.commonLabels "deployment.podLabels" .Values.deployment.podLabels "monitoring.labels" .Values.monitoring.labels "monitoring.dashboard.labels" .Values.monitoring.dashboard.labels -}}
{{- range $value, $labels := $given -}}
{{- range $label := $own -}}
{{- if hasKey ($labels | default dict) $label -}}
{{- fail (printf "%s has %s, which is a label of the chart's own: leave it out" $value $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "ccm.isDaemonSet" -}}
{{- if eq .Values.deployment.kind "DaemonSet" -}}
true
{{- end -}}
{{- end }}

{{- /* true when there are several pods that a constraint keeps apart and a budget counts. */ -}}
{{- define "ccm.isReplicated" -}}
{{- if and (not (include "ccm.isDaemonSet" .)) (gt (int .Values.deployment.replicas) 1) -}}
true
{{- end -}}
{{- end }}

{{- /* true when the values hold the three settings, empty when they hold none; anything between is a mistake. */ -}}
{{- define "ccm.createSecret" -}}
{{- $missing := list -}}
{{- $given := list -}}
{{- range $key := list "host" "token" "project" -}}
{{- if index $.Values.oxide $key -}}
{{- $given = append $given (printf "oxide.%s" $key) -}}
{{- else -}}
{{- $missing = append $missing (printf "oxide.%s" $key) -}}
{{- end -}}
{{- end -}}
{{- if $given -}}
{{- if $missing -}}
{{- fail (printf "%s given without %s: set oxide.host, oxide.token and oxide.project together, or none of them" (join ", " $given) (join ", " $missing)) -}}
{{- end -}}
{{- if .Values.oxide.existingSecret -}}
{{- fail "oxide.existingSecret is set beside oxide.host, oxide.token and oxide.project: the settings come from one place, remove the other" -}}
{{- end -}}
true
{{- end -}}
{{- end }}

{{- define "ccm.secretName" -}}
{{- default (include "ccm.fullname" .) .Values.oxide.existingSecret -}}
{{- end }}

{{- /* Name of the ConfigMap with the CA bundle, empty when there is none. */ -}}
{{- define "ccm.caConfigMap" -}}
{{- if and .Values.oxide.caBundle .Values.oxide.existingCAConfigMap -}}
{{- fail "oxide.caBundle and oxide.existingCAConfigMap are both set: keep one" -}}
{{- end -}}
{{- if .Values.oxide.caBundle -}}
{{- printf "%s-oxide-ca" (include "ccm.fullname" . | trunc 54 | trimSuffix "-") -}}
{{- else -}}
{{- .Values.oxide.existingCAConfigMap -}}
{{- end -}}
{{- end }}

{{- /* true when the backend runs as a restartable init container. */ -}}
{{- define "ccm.nativeSidecar" -}}
{{- if and .Values.deployment.nativeSidecar (semverCompare ">=1.29.0-0" .Capabilities.KubeVersion.Version) -}}
true
{{- end -}}
{{- end }}

{{- /* A port of the values, out of the way of who is in charge. */ -}}
{{- define "ccm.port" -}}
{{- if .root.Values.readOnly }}{{ add .port 100 }}{{ else }}{{ .port }}{{ end -}}
{{- end }}

{{- /* Refuses ports that cannot be: both containers are in one network, in the host's by default. */ -}}
{{- define "ccm.checkPorts" -}}
{{- $ports := dict "shim.securePort" .Values.shim.securePort "backend.healthPort" .Values.backend.healthPort -}}
{{- if .Values.backend.metrics.enabled -}}
{{- $_ := set $ports "backend.metrics.port" .Values.backend.metrics.port -}}
{{- end -}}
{{- $taken := dict -}}
{{- range $value, $port := $ports -}}
{{- $port = int $port -}}
{{- with get $taken (toString $port) -}}
{{- fail (printf "%s and %s are both %d: both containers are in one network, so give each listener a port of its own" . $value $port) -}}
{{- end -}}
{{- $_ := set $taken (toString $port) $value -}}
{{- if and $.Values.readOnly (gt (add $port 100) 65535) -}}
{{- fail (printf "%s is %d, and with readOnly=true the port is 100 above that: give one of at most 65435" $value $port) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "ccm.healthPort" -}}
{{- include "ccm.port" (dict "root" . "port" .Values.backend.healthPort) -}}
{{- end }}

{{- define "ccm.metricsPort" -}}
{{- include "ccm.port" (dict "root" . "port" .Values.backend.metrics.port) -}}
{{- end }}

{{- define "ccm.securePort" -}}
{{- include "ccm.port" (dict "root" . "port" .Values.shim.securePort) -}}
{{- end }}

{{- /* Everything is bound on loopback in the host's network; a pod's own network is private, and its kubelet comes from outside. */ -}}
{{- define "ccm.backendHealthListen" -}}
{{- if .Values.deployment.hostNetwork -}}127.0.0.1{{- end -}}:{{ include "ccm.healthPort" . }}
{{- end }}

{{- define "ccm.shimBindAddress" -}}
{{- if and (not .Values.deployment.hostNetwork) (eq .Values.shim.bindAddress "127.0.0.1") -}}
0.0.0.0
{{- else -}}
{{- .Values.shim.bindAddress -}}
{{- end -}}
{{- end }}

{{- /* true when others than the node itself reach the shim. */ -}}
{{- define "ccm.shimIsOpen" -}}
{{- $address := include "ccm.shimBindAddress" . -}}
{{- if not (or (hasPrefix "127." $address) (eq $address "::1")) -}}
true
{{- end -}}
{{- end }}

{{- /* true when the shim probes nodes: from a pod's own network it need not reach them as their traffic does. */ -}}
{{- define "ccm.probeNodes" -}}
{{- if and .Values.shim.probeNodes .Values.deployment.hostNetwork .Values.loadBalancers.enabled -}}
true
{{- end -}}
{{- end }}

{{- /* In the host's network the kubelet asks loopback: before the node is initialized the pod has no address. */ -}}
{{- define "ccm.backendProbe" -}}
httpGet:
  {{- if .root.Values.deployment.hostNetwork }}
  host: 127.0.0.1
  {{- end }}
  path: {{ .path }}
  port: health
{{- with .timing }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ccm.shimProbe" -}}
{{- $address := .root.Values.shim.bindAddress -}}
httpGet:
  {{- if .root.Values.deployment.hostNetwork }}
  host: {{ if has $address (list "0.0.0.0" "::") }}127.0.0.1{{ else }}{{ $address | quote }}{{ end }}
  {{- end }}
  path: /healthz
  port: https
  scheme: HTTPS
{{- with .timing }}
{{ toYaml . }}
{{- end }}
{{- end }}
