// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"filippo.io/mldsa"
	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// readWithTorchwood verifies the checkpoint by the policy and both of the log's keys, every entry, the proofs that the
// ledger made, and that the log only grew.
func readWithTorchwood(ctx context.Context, url string, p *plan) error {
	witnessed, err := torchwood.ParsePolicy([]byte(p.Policy))
	if err != nil {
		return err
	}
	postQuantum, err := newMLDSA44Verifier(p.MLDSA44)
	if err != nil {
		return err
	}
	policy := torchwood.ThresholdPolicy(2, witnessed, torchwood.SingleVerifierPolicy(postQuantum))
	fetcher, err := torchwood.NewTileFetcher(url)
	if err != nil {
		return err
	}
	signed, err := fetcher.ReadEndpoint(ctx, "checkpoint")
	if err != nil {
		return err
	}
	checkpoint, _, err := torchwood.VerifyCheckpoint(signed, policy)
	if err != nil {
		return err
	}
	client, err := torchwood.NewClient(fetcher)
	if err != nil {
		return err
	}
	count := int64(0)
	for index, entry := range client.AllEntries(ctx, checkpoint.Tree, 0) {
		if err := p.same(index, entry); err != nil {
			return err
		}
		count++
	}
	if client.Err() != nil || count != checkpoint.N {
		return fmt.Errorf("%d of %d entries: %w", count, checkpoint.N, client.Err())
	}
	for index, proof := range p.Proofs {
		entry, path, err := client.Entry(ctx, checkpoint.Tree, int64(index))
		if err != nil {
			return err
		}
		leaf := tlog.RecordHash(entry)
		if err := torchwood.VerifyProof(policy, leaf, torchwood.FormatProof(int64(index), path, signed)); err != nil {
			return err
		}
		if err := torchwood.VerifyProof(policy, leaf, []byte(proof)); err != nil {
			return fmt.Errorf("the ledger's own proof of %d: %w", index, err)
		}
	}
	old, _, err := torchwood.VerifyCheckpoint([]byte(p.Old), policy)
	if err != nil {
		return err
	}
	hashes := torchwood.TileHashReaderWithContext(ctx, checkpoint.Tree, fetcher)
	grown, err := tlog.ProveTree(checkpoint.N, old.N, hashes)
	if err != nil {
		return err
	}
	return tlog.CheckTree(grown, checkpoint.N, checkpoint.Hash, old.N, old.Hash)
}

// An mldsa44Verifier checks lines of type 0x06 (C2SP tlog-cosignature), which this version of torchwood does not know.
type mldsa44Verifier struct {
	name string
	hash uint32
	key  *mldsa.PublicKey
}

func newMLDSA44Verifier(vkey string) (*mldsa44Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("malformed vkey")
	}
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(data) == 0 || data[0] != 6 {
		return nil, fmt.Errorf("not a vkey of ML-DSA-44: %w", err)
	}
	key, err := mldsa.NewPublicKey(mldsa.MLDSA44(), data[1:])
	return &mldsa44Verifier{name: parts[0], hash: uint32(hash), key: key}, err
}

func (v *mldsa44Verifier) Name() string    { return v.name }
func (v *mldsa44Verifier) KeyHash() uint32 { return v.hash }

func (v *mldsa44Verifier) Verify(msg, sig []byte) bool {
	checkpoint, err := torchwood.ParseCheckpoint(string(msg))
	if err != nil || len(sig) < 8 {
		return false
	}
	signed := append([]byte("subtree/v1\n\x00"), byte(len(v.name)))
	signed = append(append(signed, v.name...), sig[:8]...)
	signed = append(append(signed, byte(len(checkpoint.Origin))), checkpoint.Origin...)
	signed = binary.BigEndian.AppendUint64(signed, 0)
	signed = binary.BigEndian.AppendUint64(signed, uint64(checkpoint.N))
	signed = append(signed, checkpoint.Hash[:]...)
	return mldsa.Verify(v.key, signed, sig[8:], nil) == nil
}

var _ note.Verifier = &mldsa44Verifier{}
