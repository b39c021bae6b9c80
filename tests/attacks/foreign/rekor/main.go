// SPDX-License-Identifier: Apache-2.0

// Verify a TransparencyLogEntry as Rekor's own clients do: main ENTRY.json KEY.pem ORIGIN. Exit 1 with words where it is not.
package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	pbs "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/rekor-tiles/v2/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"
)

func main() {
	if err := check(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("verified")
}

func check(file, keyFile, origin string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	entry := &pbs.TransparencyLogEntry{}
	if err := protojson.Unmarshal(data, entry); err != nil {
		return err
	}
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return err
	}
	by, err := signature.LoadVerifier(key, crypto.SHA256)
	if err != nil {
		return err
	}
	verifier, err := note.NewNoteVerifier(origin, by)
	if err != nil {
		return err
	}
	return verify.VerifyLogEntry(entry, verifier)
}
