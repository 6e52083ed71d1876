{{- define "tidegate.labels" -}}
app.kubernetes.io/name: tidegate
app.kubernetes.io/part-of: tidegate
{{- end }}

{{- define "tidegate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "tidegate.config" -}}
{{- $watching := "(?m)^[ \\t]*watch[ \\t]*=[ \\t]*true" -}}
{{- if .Values.cluster.enabled -}}
{{ .Values.config | default (.Files.Get "files/tidegate.toml") }}
{{- else if not .Values.config -}}
{{ regexReplaceAll $watching (.Files.Get "files/tidegate.toml") "watch = false" }}
{{- else if regexMatch $watching .Values.config -}}
{{- fail "the configuration has `watch = true` below [kubernetes], which takes the container that `cluster.enabled` switches off: every pod would be held" -}}
{{- else -}}
{{ .Values.config }}
{{- end -}}
{{- end }}
