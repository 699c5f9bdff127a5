module gort.bench/peer

go 1.23
