// SPDX-License-Identifier: Apache-2.0

// A peer for bench: appends batches to a Tessera log in POSIX files, one for each line on stdin; answers when all are durable
// and integrated.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

func main() {
	folder, batch := os.Args[1], number(os.Args[2])
	ctx := context.Background()
	secret, _, err := note.GenerateKey(rand.Reader, "log.bench/t")
	must(err)
	signer, err := note.NewSigner(secret)
	must(err)
	driver, err := posix.New(ctx, posix.Config{Path: folder})
	must(err)
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithBatching(uint(batch), 250*time.Millisecond).
		WithPushback(uint(4 * batch)).
		WithCheckpointInterval(time.Second)
	appender, _, reader, err := tessera.NewAppender(ctx, driver, options)
	must(err)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		futures := make([]tessera.IndexFuture, 0, batch)
		for range batch {
			entry := make([]byte, 200)
			_, _ = rand.Read(entry)
			futures = append(futures, appender.Add(ctx, tessera.NewEntry(entry)))
		}
		last := uint64(0)
		for _, future := range futures {
			index, err := future()
			must(err)
			last = max(last, index.Index)
		}
		for {
			size, err := reader.IntegratedSize(ctx)
			must(err)
			if size > last {
				break
			}
			time.Sleep(100 * time.Microsecond)
		}
		fmt.Println("done")
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	must(err)
	return value
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
