{{- /* What the backend and the check of `helm test` need to reach Oxide. */ -}}
{{- define "ccm.oxideCAFlag" -}}
{{- if include "ccm.caConfigMap" . -}}
- --oxide-ca-file=/etc/oxide/ca/ca.crt
{{- end -}}
{{- end }}

{{- /*
The certificates, if they are known: those of a ConfigMap that is there already can be read while helm installs or
upgrades with access to the cluster, not by `helm template`. Whatever changes them later is read by the running backend.
*/ -}}
{{- define "ccm.caText" -}}
{{- if .Values.oxide.caBundle -}}
{{- .Values.oxide.caBundle -}}
{{- else if .Values.oxide.existingCAConfigMap -}}
{{- $found := lookup "v1" "ConfigMap" .Release.Namespace .Values.oxide.existingCAConfigMap -}}
{{- get (default dict $found.data) "ca.crt" -}}
{{- end -}}
{{- end }}

{{- define "ccm.oxideEnv" -}}
{{- range $variable, $key := dict "OXIDE_HOST" "oxide-host" "OXIDE_PROJECT" "oxide-project" -}}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ include "ccm.secretName" $ }}
      key: {{ $key }}
      optional: true
{{ end -}}
# For messages, should a key be missing.
- name: OXIDE_SETTINGS_FROM
  value: {{ printf "the Secret %s/%s" .Release.Namespace (include "ccm.secretName" .) }}
{{- end }}

{{- define "ccm.oxideMounts" -}}
- name: oxide-credentials
  mountPath: /etc/oxide/credentials
  readOnly: true
{{- if include "ccm.caConfigMap" . }}
- name: oxide-ca
  mountPath: /etc/oxide/ca
  readOnly: true
{{- end }}
{{- end }}

{{- define "ccm.oxideVolumes" -}}
- name: oxide-credentials
  secret:
    secretName: {{ include "ccm.secretName" . }}
    # The backend reports what is missing better than a pod that never starts.
    optional: true
    defaultMode: 0440
    items:
      - key: oxide-token
        path: oxide-token
{{- with include "ccm.caConfigMap" . }}
- name: oxide-ca
  configMap:
    name: {{ . }}
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}
{{- end }}
