{{- define "name" -}}
{{ .Values.name | default .Chart.Name }}
{{- end }}

{{- define "fullname" -}}
{{- if contains (include "name" .) .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ include "name" . }}{{ end }}
{{- end }}

{{- define "selectorLabels" -}}
app.kubernetes.io/name: {{ include "name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
