module gort.bench/peer

go 1.25
