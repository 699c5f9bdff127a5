//! loom models of gort's protocols. Each file in `tests/` compiles one protocol module of `gort` against loom's atomics.
