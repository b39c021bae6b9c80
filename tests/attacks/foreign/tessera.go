// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"os"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

// readWithTessera verifies the checkpoint's Ed25519 line, some entries with proofs built from tiles, and growth.
func readWithTessera(ctx context.Context, address string, p *plan) error {
	fetcher, verifier, err := openLog(address, p)
	if err != nil {
		return err
	}
	checkpoint, _, _, err := client.FetchCheckpoint(ctx, fetcher.ReadCheckpoint, verifier, p.Origin)
	if err != nil {
		return err
	}
	builder, err := client.NewProofBuilder(ctx, checkpoint.Size, fetcher.ReadTile)
	if err != nil {
		return err
	}
	for index := range p.Proofs {
		at := uint64(index)
		bundle, err := client.GetEntryBundle(ctx, fetcher.ReadEntryBundle, at/256, checkpoint.Size)
		if err != nil {
			return err
		}
		entry := bundle.Entries[at%256]
		path, err := builder.InclusionProof(ctx, at)
		if err != nil {
			return err
		}
		leaf := rfc6962.DefaultHasher.HashLeaf(entry)
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, at, checkpoint.Size, leaf, path, checkpoint.Hash); err != nil {
			return err
		}
		if err := p.same(int64(index), entry); err != nil {
			return err
		}
	}
	consensus := client.UnilateralConsensus(fetcher.ReadCheckpoint)
	tracker, err := client.NewLogStateTracker(ctx, fetcher.ReadTile, []byte(p.Old), verifier, p.Origin, consensus)
	if err != nil {
		return err
	}
	_, _, _, err = tracker.Update(ctx)
	return err
}

// checkWithFsck derives all tiles and the root again from the entries.
func checkWithFsck(ctx context.Context, address string, p *plan) error {
	fetcher, verifier, err := openLog(address, p)
	if err != nil {
		return err
	}
	// More workers than tiles: with fewer, v1.0.4 waits for ever where the tiles after a bad one outnumber its queue.
	return fsck.New(p.Origin, verifier, fetcher, leafHashes, fsck.Opts{N: 16}).Check(ctx)
}

func openLog(address string, p *plan) (*client.HTTPFetcher, note.Verifier, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, nil, err
	}
	fetcher, err := client.NewHTTPFetcher(parsed, nil)
	if err != nil {
		return nil, nil, err
	}
	verifier, err := note.NewVerifier(p.Ed25519)
	return fetcher, verifier, err
}

func leafHashes(data []byte) ([][]byte, error) {
	var bundle api.EntryBundle
	if err := bundle.UnmarshalText(data); err != nil {
		return nil, err
	}
	hashes := make([][]byte, 0, len(bundle.Entries))
	for _, entry := range bundle.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}

// growLog appends entries to a Tessera log in folder and waits until a checkpoint that covers them is published, which
// Tessera does only with the witnesses' cosignatures.
func growLog(ctx context.Context, folder string) error {
	var wanted struct {
		Signer  string   `json:"signer"`
		Policy  string   `json:"policy"`
		Entries []string `json:"entries"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&wanted); err != nil {
		return err
	}
	signer, err := note.NewSigner(wanted.Signer)
	if err != nil {
		return err
	}
	witnesses, err := tessera.NewWitnessGroupFromPolicy([]byte(wanted.Policy))
	if err != nil {
		return err
	}
	driver, err := posix.New(ctx, posix.Config{Path: folder})
	if err != nil {
		return err
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(100*time.Millisecond).
		WithBatching(256, 50*time.Millisecond).
		WithWitnesses(witnesses, nil)
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return err
	}
	awaiter := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 50*time.Millisecond)
	futures := make([]tessera.IndexFuture, 0, len(wanted.Entries))
	for _, text := range wanted.Entries {
		entry, err := hex.DecodeString(text)
		if err != nil {
			return err
		}
		futures = append(futures, appender.Add(ctx, tessera.NewEntry(entry)))
	}
	for _, future := range futures {
		if _, _, err := awaiter.Await(ctx, future); err != nil {
			return err
		}
	}
	return shutdown(ctx)
}
