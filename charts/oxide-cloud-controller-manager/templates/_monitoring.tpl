{{- /* true when objects of a kind of the Prometheus operator can be created, or are to be. */ -}}
{{- define "ccm.monitored" -}}
{{- if or .root.Values.monitoring.forceEnable (.root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind)) -}}
true
{{- end -}}
{{- end }}

{{- /* How the metrics are scraped, in both monitors. */ -}}
{{- define "ccm.scraping" -}}
{{- $fields := dict -}}
{{- range $field := list "interval" "scrapeTimeout" "relabelings" "metricRelabelings" -}}
{{- with get $.Values.monitoring $field -}}
{{- $_ := set $fields $field . -}}
{{- end -}}
{{- end -}}
{{- with $fields -}}
{{- toYaml . -}}
{{- end -}}
{{- end }}

{{- /* Where both containers send their spans, and as whose. */ -}}
{{- define "ccm.tracingEnv" -}}
{{- with .Values.tracing -}}
{{- if .endpoint -}}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
{{- if lt (float64 .samplingRatio) 1.0 }}
- name: OTEL_TRACES_SAMPLER
  value: parentbased_traceidratio
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .samplingRatio | quote }}
{{- end }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ printf "k8s.namespace.name=%s,k8s.pod.name=$(POD_NAME)" $.Release.Namespace | quote }}
{{- end -}}
{{- end -}}
{{- end }}
