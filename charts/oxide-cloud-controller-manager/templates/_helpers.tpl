{{- define "ccm.name" -}}
{{- default .Chart.Name .Values.name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "ccm.fullname" -}}
{{- $name := include "ccm.name" . -}}
{{- if contains $name .Release.Name -}}
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

{{- define "ccm.image" -}}
{{- with .Values.deployment.image -}}
{{- $name := .name -}}
{{- if .registry -}}
{{- $name = printf "%s/%s" (trimSuffix "/" .registry) .name -}}
{{- end -}}
{{- if .digest -}}
{{- printf "%s@%s" $name .digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default $.Chart.AppVersion .tag) -}}
{{- end -}}
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
{{- end }}

{{- define "ccm.shimProbe" -}}
{{- $address := .Values.shim.bindAddress -}}
httpGet:
  {{- if .Values.deployment.hostNetwork }}
  host: {{ if has $address (list "0.0.0.0" "::") }}127.0.0.1{{ else }}{{ $address | quote }}{{ end }}
  {{- end }}
  path: /healthz
  port: https
  scheme: HTTPS
{{- end }}

{{- define "ccm.containerSecurityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop:
    - ALL
privileged: false
readOnlyRootFilesystem: true
{{- end }}
