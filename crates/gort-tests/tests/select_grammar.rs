//! What `select!` says of arms that it cannot read.
//!
//! After a change of the macro:
//! `TRYBUILD=overwrite cargo test -p gort-tests --test select_grammar`, and a look
//! at what has changed in `tests/ui/*.stderr`.

#[test]
fn errors_are_sentences() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
