// SPDX-License-Identifier: Apache-2.0

// Foreign lets other people's C2SP software meet a Chopmark ledger: it calls them, and judges nothing itself.
//
//	foreign torchwood URL PLAN     filippo.io/torchwood reads the log, with ML-DSA-44 by filippo.io/mldsa
//	foreign tessera URL PLAN       github.com/transparency-dev/tessera/client reads the log
//	foreign fsck URL PLAN          github.com/transparency-dev/tessera/fsck derives the log again from its entries
//	foreign log FOLDER             a Tessera log grows there, witnessed; what and by whom comes as JSON on stdin
//	foreign agent SOCKET           an ssh-agent with one new Ed25519 key, for litewitness
//
// Exit code 0: verified. 1: refused, and "refused: why" on stdout. 2: it could not begin.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// A plan is what a verifier knows beforehand, and what it should find.
type plan struct {
	Origin  string         `json:"origin"`
	Ed25519 string         `json:"ed25519"`
	MLDSA44 string         `json:"ml_dsa_44"`
	Policy  string         `json:"policy"`
	Old     string         `json:"old"`
	Entries []string       `json:"entries"`
	Proofs  map[int]string `json:"proofs"`
}

// same checks that entry is the one that was logged at index.
func (p *plan) same(index int64, entry []byte) error {
	if index >= int64(len(p.Entries)) || p.Entries[index] != hex.EncodeToString(entry) {
		return fmt.Errorf("entry %d is not the one that was logged", index)
	}
	return nil
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	readers := map[string]func(context.Context, string, *plan) error{
		"torchwood": readWithTorchwood, "tessera": readWithTessera, "fsck": checkWithFsck,
	}
	switch {
	case len(os.Args) == 4 && readers[os.Args[1]] != nil:
		var p plan
		data, err := os.ReadFile(os.Args[3])
		must(err)
		must(json.Unmarshal(data, &p))
		if err := readers[os.Args[1]](ctx, os.Args[2], &p); err != nil {
			fmt.Printf("refused: %v\n", err)
			os.Exit(1)
		}
		fmt.Println("verified")
	case len(os.Args) == 3 && os.Args[1] == "log":
		must(growLog(ctx, os.Args[2]))
	case len(os.Args) == 3 && os.Args[1] == "agent":
		must(serveAgent(os.Args[2]))
	default:
		must(fmt.Errorf("usage: see main.go"))
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}
