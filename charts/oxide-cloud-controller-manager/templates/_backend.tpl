{{- /* The backend's container: the Oxide credential and nothing of Kubernetes. */ -}}
{{- define "ccm.backendContainer" -}}
name: oxide-backend
image: {{ include "ccm.image" . | quote }}
imagePullPolicy: {{ .Values.deployment.imagePullPolicy }}
{{- if include "ccm.nativeSidecar" . }}
restartPolicy: Always
{{- end }}
command:
  - /usr/bin/oxide-backend
args:
  - --log-format={{ .Values.logging.format }}
  - --log-level={{ .Values.backend.logLevel }}
  {{- if .Values.backend.metrics.enabled }}
  - {{ printf "--metrics-listen=%s" (include "ccm.backendMetricsListen" .) | quote }}
  {{- end }}
  {{- with include "ccm.oxideCAFlag" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "ccm.firewallFlags" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- range .Values.backend.extraArgs }}
  - {{ . | quote }}
  {{- end }}
  - --listen=unix:///run/oxide/backend/backend.sock
  - --health-listen={{ include "ccm.backendHealthListen" . }}
  - --oxide-token-file=/etc/oxide/credentials/oxide-token
  {{- if .Values.readOnly }}
  - --read-only
  {{- end }}
env:
  {{- include "ccm.oxideEnv" . | nindent 2 }}
  {{- with include "ccm.tracingEnv" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .Values.backend.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - name: health
    containerPort: {{ include "ccm.healthPort" . }}
    protocol: TCP
  {{- if .Values.backend.metrics.enabled }}
  - name: metrics
    containerPort: {{ include "ccm.metricsPort" . }}
    protocol: TCP
  {{- end }}
startupProbe:
  {{- include "ccm.backendProbe" (dict "root" . "path" "/livez" "timing" .Values.backend.startupProbe) | nindent 2 }}
livenessProbe:
  {{- include "ccm.backendProbe" (dict "root" . "path" "/livez" "timing" .Values.backend.livenessProbe) | nindent 2 }}
readinessProbe:
  {{- include "ccm.backendProbe" (dict "root" . "path" "/readyz" "timing" .Values.backend.readinessProbe) | nindent 2 }}
resources:
  {{- toYaml .Values.backend.resources | nindent 2 }}
securityContext:
  {{- toYaml .Values.deployment.containerSecurityContext | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: socket
    mountPath: /run/oxide
  {{- include "ccm.oxideMounts" . | nindent 2 }}
  {{- with .Values.backend.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "ccm.firewallFlags" -}}
{{- if .Values.firewall.manage -}}
- --manage-firewall
- --firewall-priority={{ .Values.firewall.priority }}
{{- end -}}
{{- end }}

{{- define "ccm.backendMetricsListen" -}}
{{- with .Values.backend.metrics.bindAddress -}}
{{- if contains ":" . -}}[{{ . }}]{{- else -}}{{ . }}{{- end -}}
{{- end -}}:{{ include "ccm.metricsPort" . }}
{{- end }}
