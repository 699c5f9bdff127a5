//! The attributes `#[gort::main]` and `#[gort::test]`, and what `select!` says of an arm that it
//! cannot read. Use them through the `gort` crate.
#![forbid(unsafe_code)]

mod select;

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Runs the body of `main` as the main goroutine: `fn main() -> R { .. }` becomes
/// `fn main() -> R { gort::run(|| -> R { .. }) }`.
#[proc_macro_attribute]
pub fn main(attr: TokenStream, item: TokenStream) -> TokenStream {
    match wrap(attr, item, "main", "::gort::run") {
        Ok(out) => out,
        Err(e) => e,
    }
}

/// Like `#[test]`, but the body runs as a goroutine.
///
/// The goroutine has the thread-locals of the thread that libtest runs the test on. So libtest
/// captures what it prints, and a panic names the test. What other goroutines print goes to the
/// terminal: to std each of them is a thread that libtest does not know.
#[proc_macro_attribute]
pub fn test(attr: TokenStream, item: TokenStream) -> TokenStream {
    match wrap(attr, item, "test", "::gort::__run_test") {
        Ok(out) => {
            let mut with_attr: TokenStream = "#[::core::prelude::v1::test]".parse().expect("valid");
            with_attr.extend(out);
            with_attr
        }
        Err(e) => e,
    }
}

/// For `gort::select!`: what is wrong with an arm that it cannot read.
#[doc(hidden)]
#[proc_macro]
pub fn __select_error(input: TokenStream) -> TokenStream {
    select::explain(input)
}

/// Replaces the body `{ B }` of a function without parameters by
/// `{ run(move || -> R { B }) }`.
fn wrap(attr: TokenStream, item: TokenStream, name: &str, run: &str) -> Result<TokenStream, TokenStream> {
    if !attr.is_empty() {
        return Err(error(&format!(
            "#[gort::{name}] takes no arguments; the settings are in gort::Runtime::builder()"
        )));
    }
    let tokens: Vec<TokenTree> = item.into_iter().collect();
    let is_ident = |t: &TokenTree, s: &str| matches!(t, TokenTree::Ident(i) if i.to_string() == s);
    let Some(fn_at) = tokens.iter().position(|t| is_ident(t, "fn")) else {
        return Err(error(&format!("#[gort::{name}] must be on a function")));
    };
    if tokens[..fn_at].iter().any(|t| is_ident(t, "async")) {
        return Err(error(&format!("#[gort::{name}] functions are plain blocking code: remove `async`")));
    }
    match tokens.get(fn_at + 2) {
        Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Parenthesis && g.stream().is_empty() => {}
        _ => return Err(error(&format!("#[gort::{name}] functions take no parameters"))),
    }
    let Some(TokenTree::Group(body)) = tokens.last() else {
        return Err(error(&format!("#[gort::{name}] needs a function with a body")));
    };
    let ret: TokenStream = tokens[fn_at + 3..tokens.len() - 1].iter().cloned().collect();
    let mut call: TokenStream = "move ||".parse().expect("valid");
    call.extend(ret);
    call.extend([TokenTree::Group(body.clone())]);
    let mut inner: TokenStream = run.parse().expect("valid");
    inner.extend([TokenTree::Group(Group::new(Delimiter::Parenthesis, call))]);
    let mut out: TokenStream = tokens[..tokens.len() - 1].iter().cloned().collect();
    out.extend([TokenTree::Group(Group::new(Delimiter::Brace, inner))]);
    Ok(out)
}

fn error(msg: &str) -> TokenStream {
    let mut out: TokenStream = "::core::compile_error!".parse().expect("valid");
    let lit = TokenTree::Literal(proc_macro::Literal::string(msg));
    out.extend([TokenTree::Group(Group::new(Delimiter::Brace, lit.into()))]);
    out
}
