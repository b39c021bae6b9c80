module chopmark.test/fulcio

go 1.26.0

require github.com/sigstore/fulcio v1.8.8
