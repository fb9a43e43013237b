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
