{{- /* Where a pod of the chart runs, and as whom. */ -}}
{{- define "ccm.podPlace" -}}
hostNetwork: {{ .Values.deployment.hostNetwork }}
dnsPolicy: {{ .Values.deployment.dnsPolicy }}
{{- with .Values.deployment.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.deployment.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.deployment.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  {{- $context := .Values.deployment.podSecurityContext }}
  {{- if .Values.deployment.openshift }}
  {{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}
  {{- end }}
  {{- toYaml $context | nindent 2 }}
{{- with .Values.deployment.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.deployment.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- if .Values.deployment.affinity }}
  {{- toYaml .Values.deployment.affinity | nindent 2 }}
  {{- else if and (include "ccm.isDaemonSet" .) (not .Values.deployment.nodeSelector) }}
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            - key: node-role.kubernetes.io/control-plane
              operator: Exists
  {{- else }}
  nodeAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        preference:
          matchExpressions:
            - key: node-role.kubernetes.io/control-plane
              operator: Exists
  {{- end }}
tolerations:
  - key: node.cloudprovider.kubernetes.io/uninitialized
    operator: Exists
    effect: NoSchedule
  # Every node is not ready before its pod network is there, and that may wait for this pod.
  - key: node.kubernetes.io/not-ready
    operator: Exists
  - key: node.kubernetes.io/network-unavailable
    operator: Exists
    effect: NoSchedule
  - key: node.kubernetes.io/unreachable
    operator: Exists
    effect: NoExecute
    tolerationSeconds: 30
  - key: node-role.kubernetes.io/control-plane
    operator: Exists
  - key: node-role.kubernetes.io/etcd
    operator: Exists
  - key: CriticalAddonsOnly
    operator: Exists
  {{- with .Values.deployment.extraTolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
