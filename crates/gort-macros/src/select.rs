//! What is wrong with an arm of `select!`, said at the place of the arm.
//!
//! The macro by example reads the arms. What it cannot read comes here, from the arm on, so that an
//! error can point at it:
//!
//! - `arm [default] tokens`: `tokens` begin with an arm whose head cannot be read. `[default]` is
//!   empty if there was no `default` so far.
//! - `body tokens`: `tokens` begin with a body that cannot be read.

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// What the operations look like.
const RECV: &str = "`recv(receiver) -> pattern => body`";
const SEND: &str = "`send(sender, message) -> pattern => body`";

/// A sentence, and the tokens that it is about.
struct Complaint<'a>(String, &'a [TokenTree]);

pub(crate) fn explain(input: TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = input.into_iter().collect();
    let complaint = match &tokens[..] {
        [what, TokenTree::Group(default), arm @ ..] if is_ident(what, "arm") && !arm.is_empty() => {
            of_arm(!default.stream().is_empty(), arm)
        }
        [what, body @ ..] if is_ident(what, "body") && !body.is_empty() => of_body(body),
        _ => Complaint(format!("expected {RECV} or {SEND}"), &tokens),
    };
    at(complaint)
}

// ---- tokens ----

fn is_ident(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident.to_string() == word)
}

fn is_punct(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

fn is_group(token: Option<&TokenTree>, delimiter: Delimiter) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.delimiter() == delimiter)
}

/// Whether `tokens` begin with an arrow: `=>` or `->`.
fn is_arrow(tokens: &[TokenTree], shaft: char) -> bool {
    let joint = matches!(tokens.first(), Some(TokenTree::Punct(punct)) if punct.spacing() == Spacing::Joint);
    joint && is_punct(tokens.first(), shaft) && is_punct(tokens.get(1), '>')
}

/// Whether `tokens` begin with an arm that can be taken for nothing else.
fn begins_arm(tokens: &[TokenTree]) -> bool {
    let Some(first) = tokens.first() else { return false };
    let arguments = usize::from(is_group(tokens.get(1), Delimiter::Parenthesis));
    let rest = tokens.get(1 + arguments..).unwrap_or_default();
    let arrow = is_arrow(rest, '=') || is_arrow(rest, '-');
    let operation = arguments == 1 && (is_ident(first, "recv") || is_ident(first, "send"));
    arrow && (operation || is_ident(first, "default"))
}

/// Where the next arm begins behind the first token. `r.recv() =>` begins none.
fn next_arm(tokens: &[TokenTree]) -> Option<usize> {
    let in_path = |i: usize| is_punct(tokens.get(i - 1), '.') || is_punct(tokens.get(i - 1), ':');
    (1..tokens.len()).find(|&i| begins_arm(&tokens[i..]) && !in_path(i))
}

fn find(tokens: &[TokenTree], is: impl Fn(&[TokenTree]) -> bool) -> Option<usize> {
    (0..tokens.len()).find(|&i| is(&tokens[i..]))
}

/// The arm that `tokens` begin with: up to the comma after its body, or to the next arm.
fn first_arm(tokens: &[TokenTree]) -> &[TokenTree] {
    let mut arm = &tokens[..next_arm(tokens).unwrap_or(tokens.len())];
    if let Some(arrow) = find(arm, |rest| is_arrow(rest, '=')) {
        let body = arrow + 2;
        let comma = find(&arm[body..], |rest| is_punct(rest.first(), ',')).map(|i| body + i);
        let end = if is_group(arm.get(body), Delimiter::Brace) { Some(body + 1) } else { comma };
        arm = &arm[..end.unwrap_or(arm.len())];
    }
    match arm {
        [before @ .., last] if !before.is_empty() && is_punct(Some(last), ',') => before,
        _ => arm,
    }
}

/// How many arguments there are in a group of parentheses.
fn count(arguments: &TokenTree) -> usize {
    let TokenTree::Group(group) = arguments else { return 0 };
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    tokens.split(|token| is_punct(Some(token), ',')).filter(|part| !part.is_empty()).count()
}

// ---- what is wrong ----

fn of_arm(default_seen: bool, tokens: &[TokenTree]) -> Complaint<'_> {
    let arm = first_arm(tokens);
    let head = &arm[0];
    if is_ident(head, "default") {
        of_default(default_seen, arm)
    } else if is_ident(head, "recv") {
        of_operation("recv", RECV, 1, arm)
    } else if is_ident(head, "send") {
        of_operation("send", SEND, 2, arm)
    } else if is_punct(Some(head), ',') || is_punct(Some(head), ';') {
        Complaint(format!("expected an arm, found `{head}`"), &arm[..1])
    } else {
        let forms = format!("expected {RECV}, {SEND} or `default => body`");
        let before_body = find(arm, |rest| is_arrow(rest, '=')).unwrap_or(arm.len());
        let is_assignment = |rest: &[TokenTree]| is_punct(rest.first(), '=');
        if find(&arm[..before_body], is_assignment).is_some() {
            let hint = "the operation comes first, and what it gives after `->`";
            return Complaint(format!("{forms}: {hint}"), arm);
        }
        let call = matches!(head, TokenTree::Ident(_)) && is_group(arm.get(1), Delimiter::Parenthesis);
        let what = if call { "no operation of `select!`" } else { "no beginning of an arm" };
        Complaint(format!("`{head}` is {what}: {forms}"), &arm[..1])
    }
}

fn of_operation<'a>(op: &str, form: &str, arguments: usize, arm: &'a [TokenTree]) -> Complaint<'a> {
    let say = |text: String| Complaint(text, arm);
    if !is_group(arm.get(1), Delimiter::Parenthesis) {
        return say(format!("expected parentheses after `{op}`: {form}"));
    }
    let rest = &arm[2..];
    let with_guard = form.replace(" =>", ", if condition =>");
    if !is_arrow(rest, '-') {
        let comma = usize::from(is_punct(rest.first(), ','));
        return say(if rest.get(comma).is_some_and(|token| is_ident(token, "if")) {
            format!("a guard comes after the pattern: {with_guard}")
        } else {
            format!("expected `-> pattern` after `{op}(…)`: {form}; `-> _` if the result does not matter")
        });
    }
    let pattern = &rest[2..];
    let Some(arrow) = find(pattern, |rest| is_arrow(rest, '=')) else {
        return say(format!("expected `=>` and a body after the pattern: {form}"));
    };
    let (pattern, body) = (&pattern[..arrow], &pattern[arrow + 2..]);
    if pattern.is_empty() {
        return say(format!("expected a pattern between `->` and `=>`: {form}"));
    }
    let guard = find(pattern, |rest| is_ident(&rest[0], "if"));
    let comma = find(pattern, |rest| is_punct(rest.first(), ','));
    match (comma, guard) {
        (Some(_), None) => return say(format!("expected `if` and a guard after the comma: {with_guard}")),
        (None, Some(_)) => return say(format!("expected a comma before the guard: {with_guard}")),
        (Some(_), Some(guard)) if guard + 1 == pattern.len() => {
            return say(format!("expected a condition after `if`: {with_guard}"));
        }
        _ => {}
    }
    let found = count(&arm[1]);
    if found != arguments {
        let expected = ["", "one argument, the receiver", "two arguments, the sender and the message"];
        return Complaint(format!("expected {}, found {found}: {form}", expected[arguments]), &arm[..2]);
    }
    if body.is_empty() {
        return say(format!("expected a body after `=>`: {form}"));
    }
    say(format!("expected {form} or {with_guard}"))
}

fn of_default(seen: bool, arm: &[TokenTree]) -> Complaint<'_> {
    let say = |text: &str| Complaint(text.to_string(), arm);
    let arguments = usize::from(is_group(arm.get(1), Delimiter::Parenthesis));
    let rest = &arm[1 + arguments..];
    if is_arrow(rest, '-') {
        return say("`default` has no result: expected `default => body` or `default(timeout) => body`");
    }
    if rest.iter().take(2).any(|token| is_ident(token, "if")) {
        return say("`default` has no guard: expected `default => body`, with the condition in the body");
    }
    if !is_arrow(rest, '=') {
        return say("expected `=>` and a body: `default => body` or `default(timeout) => body`");
    }
    if seen {
        return say("there can be only one `default` in a `select!`");
    }
    if rest.len() == 2 {
        return say("expected a body after `=>`: `default => body`");
    }
    say("expected at most one duration after `default`: `default(timeout) => body`")
}

fn of_body(tokens: &[TokenTree]) -> Complaint<'_> {
    let sign = &tokens[..1];
    if is_punct(tokens.first(), ',') || is_punct(tokens.first(), ';') {
        return Complaint(format!("expected a body after `=>`, found `{}`", tokens[0]), sign);
    }
    let arm = if begins_arm(tokens) { Some(0) } else { next_arm(tokens) };
    let comma = find(tokens, |rest| is_punct(rest.first(), ','));
    let next = arm.into_iter().chain(comma).min();
    let body = &tokens[..next.unwrap_or(tokens.len())];
    if let Some(at) = find(body, |rest| is_punct(rest.first(), ';')) {
        let text = "expected a comma after the body of an arm, found `;`";
        return Complaint(text.to_string(), &body[at..=at]);
    }
    let text = match next {
        Some(0) => return Complaint("expected a body after `=>`, found an arm".to_string(), &tokens[..1]),
        Some(next) if !is_punct(tokens.get(next), ',') => {
            "expected a comma after this body: it may be left out only after a body in braces"
        }
        _ => "expected one expression, the body of the arm; several go into braces",
    };
    Complaint(text.to_string(), body)
}

/// `::core::compile_error! { text }` that the compiler shows at these tokens: an error of a macro
/// call points from the beginning of its path to the end of its braces.
fn at(Complaint(text, tokens): Complaint<'_>) -> TokenStream {
    let first = tokens.first().map_or_else(Span::call_site, TokenTree::span);
    let last = tokens.last().map_or_else(Span::call_site, TokenTree::span);
    let mut literal = Literal::string(&text);
    literal.set_span(last);
    let mut braces = Group::new(Delimiter::Brace, TokenTree::from(literal).into());
    braces.set_span(last);
    let punct = |sign, spacing| {
        let mut punct = Punct::new(sign, spacing);
        punct.set_span(first);
        TokenTree::from(punct)
    };
    let ident = |word| TokenTree::from(Ident::new(word, first));
    let colons = || [punct(':', Spacing::Joint), punct(':', Spacing::Alone)];
    let path = colons().into_iter().chain([ident("core")]).chain(colons());
    path.chain([ident("compile_error"), punct('!', Spacing::Alone), braces.into()]).collect()
}
