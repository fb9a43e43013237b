{{- /* The shim's container: the Kubernetes credential and nothing of Oxide. */ -}}
{{- define "ccm.shimContainer" -}}
name: ccm-shim
image: {{ include "ccm.image" . | quote }}
imagePullPolicy: {{ .Values.deployment.imagePullPolicy }}
command:
  - /usr/bin/ccm-shim
args:
  - --logging-format={{ .Values.logging.format }}
  - --v={{ .Values.shim.verbosity }}
  - --configure-cloud-routes=false
  - --profiling=false
  {{- with .Values.shim.clusterID }}
  - {{ printf "--cluster-id=%s" . | quote }}
  {{- end }}
  {{- range .Values.shim.adoptClusterIDs }}
  - {{ printf "--adopt-cluster-id=%s" . | quote }}
  {{- end }}
  - {{ printf "--legacy-cluster-name=%s" .Values.shim.legacyClusterName | quote }}
  - {{ printf "--reserved-ports=%s" .Values.shim.reservedPorts | quote }}
  {{- with .Values.shim.region }}
  - {{ printf "--region=%s" . | quote }}
  {{- end }}
  {{- with .Values.shim.zone }}
  - {{ printf "--zone=%s" . | quote }}
  {{- end }}
  {{- if .Values.shim.zoneFromRack }}
  {{- if .Values.shim.zone }}
  {{- fail "shim.zone and shim.zoneFromRack are both set: keep one" }}
  {{- end }}
  - --zone-from-rack
  {{- end }}
  {{- range .Values.shim.extraArgs }}
  - {{ . | quote }}
  {{- end }}
  - --cloud-provider=oxide
  - --backend=unix:///run/oxide/backend/backend.sock
  - --leader-elect=true
  - {{ printf "--bind-address=%s" (include "ccm.shimBindAddress" .) | quote }}
  - --secure-port={{ include "ccm.securePort" . }}
  - --probe-nodes={{ include "ccm.probeNodes" . | default "false" }}
  {{- if not .Values.loadBalancers.enabled }}
  - "--controllers=*,-service-lb-controller,-oxide-load-balancer-controller,-oxide-load-balancer-class-controller"
  {{- else if .Values.loadBalancers.classedOnly }}
  - --classed-load-balancers-only
  {{- end }}
  {{- if .Values.readOnly }}
  - --read-only
  {{- end }}
  # Addresses of Services prefer other nodes: a floating IP changes where its node's own traffic seems to come from.
  - --node-name=$(NODE_NAME)
env:
  - name: NODE_NAME
    valueFrom:
      fieldRef:
        fieldPath: spec.nodeName
  {{- with include "ccm.tracingEnv" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .Values.shim.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - name: https
    containerPort: {{ include "ccm.securePort" . }}
    protocol: TCP
startupProbe:
  {{- include "ccm.shimProbe" (dict "root" . "timing" .Values.shim.startupProbe) | nindent 2 }}
livenessProbe:
  {{- include "ccm.shimProbe" (dict "root" . "timing" .Values.shim.livenessProbe) | nindent 2 }}
readinessProbe:
  {{- include "ccm.shimProbe" (dict "root" . "timing" .Values.shim.readinessProbe) | nindent 2 }}
resources:
  {{- toYaml .Values.shim.resources | nindent 2 }}
securityContext:
  {{- toYaml .Values.deployment.containerSecurityContext | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: socket
    mountPath: /run/oxide
  - name: kubernetes-credentials
    mountPath: /var/run/secrets/kubernetes.io/serviceaccount
    readOnly: true
  {{- with .Values.shim.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
