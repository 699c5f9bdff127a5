//! `select!` and `select_biased!`: their grammar, and the code they stand for.
//!
//! There are two steps, both done by one hidden macro:
//!
//! - `@case` takes the arms off the input one by one and sorts them into operations and the
//!   default.
//! - `@run` writes the code: an array of arms on the stack, one call, and a `match` that completes
//!   the chosen operation.
//!
//! A lone receive becomes a call of `recv`, `try_recv` or `recv_timeout`. An operation takes three
//! steps of recursion, so the compiler's limit of 128 allows about forty.
//!
//! A guard that is false turns its arm into one that is never ready, as one with `never()` is. Arms
//! without a guard have no code for it.
//!
//! What cannot be read goes to `__select_error` of `gort-macros`, with the tokens from the arm on.
//! It says what was expected, at the place of the arm: macros by example can only point at all of
//! a call.
//!
//! The order of evaluation:
//!
//! - The channel expressions are evaluated once each, in order, before anything is chosen, each
//!   with its guard behind it. The duration after `default` comes after them.
//! - The message expression of a send is evaluated only if that send was chosen: after the choice
//!   and before the message is taken. So a panic, `return` or `?` in it leaves the channel as it
//!   was.

/// Waits for several channel operations at once, and completes the first one that is ready.
///
/// If several are ready, it chooses one at random.
///
/// ```text
/// select! {
///     recv(receiver) -> result => body,               result: Result<T, RecvError>
///     send(sender, message) -> result => body,        result: Result<(), SendError<T>>
///     recv(receiver) -> result, if guard => body,     only if the guard is true; send too
///     default => body,                                if nothing is ready now
///     default(timeout) => body,                       if nothing becomes ready in time
/// }
/// ```
///
/// - The value of the chosen body is the value of `select!`.
/// - There may be at most one `default`.
/// - The comma may be left out after a body in braces.
/// - An operation on a disconnected channel is ready, with an error.
/// - A guard is a condition that is evaluated once, before anything is chosen. An arm whose guard
///   is false is left out; its channel expression is evaluated all the same. `default` has none.
/// - If all arms are left out and there is no `default`, `select!` waits for ever, as Go's `select`
///   without cases does.
/// - An arm that receives from [`never()`](crate::chan::never) is left out too: for a channel that
///   is switched off for good.
///
/// The message expression of a send is evaluated only if the send is chosen. With capacity zero, a
/// receiver has then committed to the message and waits for it. If the expression panics or leaves
/// the `select!`, the receiver goes back to waiting.
///
/// # Blocking
///
/// G: yes, unless there is a `default` without a timeout. M: no. P: no.
///
/// Even with such a `default`, a receive on a channel of capacity zero may meet another `select!`
/// that sends, and then waits until that one has made its message.
///
/// # Examples
///
/// ```
/// use gort::chan::{after, bounded};
/// use gort::select;
/// use std::time::Duration;
///
/// gort::run(|| {
///     let (s1, r1) = bounded::<&str>(0);
///     let (s2, r2) = bounded(1);
///
///     select! {
///         recv(r1) -> msg => unreachable!("nothing was sent, yet got {msg:?}"),
///         default => println!("nothing yet"),
///     }
///     gort::go(move || s1.send("hello").unwrap());
///     select! {
///         recv(r1) -> msg => assert_eq!(msg, Ok("hello")),
///         recv(after(Duration::from_secs(60))) -> _ => unreachable!(),
///     }
///     let chosen = select! {
///         send(s2, 1) -> res => { res.unwrap(); "sent" }
///         recv(r2) -> _ => "received",
///         default(Duration::from_millis(10)) => "nothing",
///     };
///     assert_eq!(chosen, "sent");
/// })
/// ```
///
/// Guards: this loop takes in what it is given while there is room, and gives it out again.
///
/// ```
/// use gort::chan::bounded;
/// use std::collections::VecDeque;
///
/// gort::run(|| {
///     let (input, from_input) = bounded(0);
///     let (to_output, output) = bounded(0);
///     gort::go(move || (1..=10).try_for_each(|n| input.send(n)));
///     gort::go(move || {
///         let (mut queue, mut open) = (VecDeque::new(), true);
///         while open || !queue.is_empty() {
///             gort::select! {
///                 recv(from_input) -> n, if open && queue.len() < 4 => match n {
///                     Ok(n) => queue.push_back(n),
///                     Err(_) => open = false,
///                 },
///                 send(to_output, queue.pop_front().unwrap()) -> _, if !queue.is_empty() => {}
///             }
///         }
///     });
///     assert_eq!(output.iter().sum::<i32>(), 55);
/// })
/// ```
#[macro_export]
macro_rules! select {
    ($($tokens:tt)*) => { $crate::__select!(@case false [] [] $($tokens)*) };
}

/// Like [`select!`](crate::select!), but if several operations are ready, it chooses the first of
/// them.
///
/// # Blocking
///
/// As [`select!`](crate::select!).
///
/// # Examples
///
/// ```
/// use gort::chan::unbounded;
///
/// gort::run(|| {
///     let (s1, r1) = unbounded();
///     let (s2, r2) = unbounded();
///     s1.send(1).unwrap();
///     s2.send(2).unwrap();
///     gort::select_biased! {
///         recv(r1) -> msg => assert_eq!(msg, Ok(1)),
///         recv(r2) -> _ => unreachable!(),
///     }
/// })
/// ```
#[macro_export]
macro_rules! select_biased {
    ($($tokens:tt)*) => { $crate::__select!(@case true [] [] $($tokens)*) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    // ---- @case biased [operations] [default] input: the heads of the arms
    (@case $biased:tt [] []) => {
        ::core::compile_error!("`select!` needs an arm: `recv(receiver) -> pattern => body` or `send(sender, message) -> pattern => body`")
    };
    (@case $biased:tt $ops:tt $default:tt) => { $crate::__select!(@run $biased $ops $default) };
    (@case $biased:tt [$($ops:tt)*] $default:tt recv($r:expr $(,)?) -> $res:pat => $($rest:tt)+) => {
        $crate::__select!(@body $biased [$($ops)* recv ($r) () () ($res)] $default $($rest)+)
    };
    (@case $biased:tt [$($ops:tt)*] $default:tt recv($r:expr $(,)?) -> $res:pat, if $on:expr => $($rest:tt)+) => {
        $crate::__select!(@body $biased [$($ops)* recv ($r) ($on) () ($res)] $default $($rest)+)
    };
    (@case $biased:tt [$($ops:tt)*] $default:tt send($s:expr, $m:expr $(,)?) -> $res:pat => $($rest:tt)+) => {
        $crate::__select!(@body $biased [$($ops)* send ($s) () ($m) ($res)] $default $($rest)+)
    };
    (@case $biased:tt [$($ops:tt)*] $default:tt send($s:expr, $m:expr $(,)?) -> $res:pat, if $on:expr => $($rest:tt)+) => {
        $crate::__select!(@body $biased [$($ops)* send ($s) ($on) ($m) ($res)] $default $($rest)+)
    };
    (@case $biased:tt $ops:tt [] default => $($rest:tt)+) => {
        $crate::__select!(@default_body $biased $ops () $($rest)+)
    };
    (@case $biased:tt $ops:tt [] default($($timeout:expr $(,)?)?) => $($rest:tt)+) => {
        $crate::__select!(@default_body $biased $ops ($($timeout)?) $($rest)+)
    };

    // ---- what is wrong with a head is said by `gort-macros`, which can point at it
    (@case $biased:tt $ops:tt $default:tt $($rest:tt)+) => { $crate::__select_error!(arm $default $($rest)+); };

    // ---- @body: the body of the operation that was just read
    (@body $biased:tt [$($ops:tt)*] $default:tt { $($body:tt)* } , $($rest:tt)*) => {
        $crate::__select!(@case $biased [$($ops)* { $($body)* }] $default $($rest)*)
    };
    (@body $biased:tt [$($ops:tt)*] $default:tt $body:expr , $($rest:tt)*) => {
        $crate::__select!(@case $biased [$($ops)* { $body }] $default $($rest)*)
    };
    (@body $biased:tt [$($ops:tt)*] $default:tt { $($body:tt)* } $($rest:tt)*) => {
        $crate::__select!(@case $biased [$($ops)* { $($body)* }] $default $($rest)*)
    };
    (@body $biased:tt [$($ops:tt)*] $default:tt $body:expr) => {
        $crate::__select!(@case $biased [$($ops)* { $body }] $default)
    };
    (@body $biased:tt $ops:tt $default:tt $($rest:tt)*) => { $crate::__select_error!(body $($rest)*); };

    // ---- @default_body: the body of the default
    (@default_body $biased:tt $ops:tt $timeout:tt { $($body:tt)* } , $($rest:tt)*) => {
        $crate::__select!(@case $biased $ops [$timeout { $($body)* }] $($rest)*)
    };
    (@default_body $biased:tt $ops:tt $timeout:tt $body:expr , $($rest:tt)*) => {
        $crate::__select!(@case $biased $ops [$timeout { $body }] $($rest)*)
    };
    (@default_body $biased:tt $ops:tt $timeout:tt { $($body:tt)* } $($rest:tt)*) => {
        $crate::__select!(@case $biased $ops [$timeout { $($body)* }] $($rest)*)
    };
    (@default_body $biased:tt $ops:tt $timeout:tt $body:expr) => {
        $crate::__select!(@case $biased $ops [$timeout { $body }])
    };
    (@default_body $biased:tt $ops:tt $timeout:tt $($rest:tt)*) => { $crate::__select_error!(body $($rest)*); };

    // ---- @run: a lone receive without a guard is a plain one
    (@run $biased:tt [recv ($r:expr) () () ($res:pat) $body:tt] []) => {
        match $r {
            ref _r => {
                let _r: &$crate::chan::Receiver<_> = _r;
                let _res = _r.recv();
                let $res = _res;
                $body
            }
        }
    };
    (@run $biased:tt [recv ($r:expr) () () ($res:pat) $body:tt] [() $default:tt]) => {
        match $r {
            ref _r => {
                let _r: &$crate::chan::Receiver<_> = _r;
                match _r.try_recv() {
                    ::core::result::Result::Err($crate::chan::TryRecvError::Empty) => $default,
                    _res => {
                        let _res = _res.map_err(|_| $crate::chan::RecvError);
                        let $res = _res;
                        $body
                    }
                }
            }
        }
    };
    (@run $biased:tt [recv ($r:expr) () () ($res:pat) $body:tt] [($timeout:expr) $default:tt]) => {
        match $r {
            ref _r => {
                let _r: &$crate::chan::Receiver<_> = _r;
                match _r.recv_timeout($timeout) {
                    ::core::result::Result::Err($crate::chan::RecvTimeoutError::Timeout) => $default,
                    _res => {
                        let _res = _res.map_err(|_| $crate::chan::RecvError);
                        let $res = _res;
                        $body
                    }
                }
            }
        }
    };
    (@run $biased:tt $ops:tt $default:tt) => {
        $crate::__select!(@bind $biased $ops $default (0usize) [])
    };

    // ---- @bind: binds each handle to a name of its own (each step of the macro has other names),
    // and counts them.
    // All arms receive: one that is likely to be ready is tried before the arms are set up.
    (@bind $biased:tt [] $default:tt ($n:expr) [$([$i:tt recv $slot:ident $handle:ident ($($on:ident)?) () ($res:pat) $body:tt])*]) => {{
        let _patience = $crate::__select!(@patience $default);
        let _completed = match $crate::chan::internal::likely([$($handle.hint()$(.only_if($on))?),*], _patience, $biased) {
            $(::core::option::Option::Some(_index) if _index == $i => {
                $slot = $handle.take_likely();
                $slot.as_ref().map(|_| $crate::chan::internal::Selected::completed(_index))
            })*
            _ => ::core::option::Option::None,
        };
        let _selected = if _completed.is_some() {
            _completed
        } else {
            let mut _arms: [$crate::chan::internal::Arm<'_>; $n] =
                [$($crate::chan::internal::Arm::recv($handle, $i)$(.only_if($on))?),*];
            let mut _order = [0u32; 2 * $n];
            $crate::chan::internal::run(&mut _arms, &mut _order, _patience, $biased)
        };
        match _selected {
            $(::core::option::Option::Some(_selected) if _selected.index() == $i => {
                let _res = match $slot {
                    ::core::option::Option::Some(_res) => _res,
                    ::core::option::Option::None => _selected.begin($handle).recv($handle),
                };
                let $res = _res;
                $body
            })*
            _ => $crate::__select!(@default $default),
        }
    }};
    (@bind $biased:tt [] $default:tt ($n:expr) [$([$i:tt $op:ident $slot:ident $handle:ident ($($on:ident)?) ($($m:expr)?) ($res:pat) $body:tt])*]) => {{
        let mut _arms: [$crate::chan::internal::Arm<'_>; $n] =
            [$($crate::chan::internal::Arm::$op($handle, $i)$(.only_if($on))?),*];
        let mut _order = [0u32; 2 * $n];
        let _patience = $crate::__select!(@patience $default);
        match $crate::chan::internal::run(&mut _arms, &mut _order, _patience, $biased) {
            $(::core::option::Option::Some(_selected) if _selected.index() == $i => {
                let _res = _selected.begin($handle).$op($handle $(, $m)?);
                let $res = _res;
                $body
            })*
            _ => $crate::__select!(@default $default),
        }
    }};
    (@bind $biased:tt [$op:ident ($handle:expr) () $m:tt $res:tt $body:tt $($ops:tt)*] $default:tt ($n:expr) [$($bound:tt)*]) => {
        match $handle {
            ref _handle => {
                let _handle: $crate::__select!(@type $op) = _handle;
                let mut _slot = $crate::chan::internal::slot(_handle);
                $crate::__select!(
                    @bind $biased [$($ops)*] $default ($n + 1) [$($bound)* [($n) $op _slot _handle () $m $res $body]]
                )
            }
        }
    };
    (@bind $biased:tt [$op:ident ($handle:expr) ($on:expr) $m:tt $res:tt $body:tt $($ops:tt)*] $default:tt ($n:expr) [$($bound:tt)*]) => {
        match $handle {
            ref _handle => {
                let _handle: $crate::__select!(@type $op) = _handle;
                let _on: ::core::primitive::bool = $on;
                let mut _slot = $crate::chan::internal::slot(_handle);
                $crate::__select!(
                    @bind $biased [$($ops)*] $default ($n + 1) [$($bound)* [($n) $op _slot _handle (_on) $m $res $body]]
                )
            }
        }
    };
    (@type recv) => { &$crate::chan::Receiver<_> };
    (@type send) => { &$crate::chan::Sender<_> };

    (@patience []) => { $crate::chan::internal::Patience::Forever };
    (@patience [() $body:tt]) => { $crate::chan::internal::Patience::None };
    (@patience [($timeout:expr) $body:tt]) => { $crate::chan::internal::Patience::lasting($timeout) };
    (@default []) => { ::core::unreachable!("endless patience") };
    (@default [$timeout:tt $body:tt]) => { $body };
}
