//! Tests of what the public interface does not show: that nothing stays linked.

use super::*;

fn children(ctx: &Context) -> usize {
    ctx.0.handle.as_ref().map_or(0, |handle| handle.children())
}

const HOUR: Duration = Duration::from_secs(3600);

/// Children leave their parent when they are cancelled, and when their last handle is dropped.
// GO-CASES K9
#[test]
fn children_are_unlinked() {
    let (root, _cancel) = Context::background().with_cancel();
    let (child, cancel) = root.with_cancel();
    assert_eq!(children(&root), 1);
    cancel.cancel();
    assert_eq!(children(&root), 0);
    drop(child);

    let (child, cancel) = root.with_timeout(HOUR);
    let below = child.with_value(1).with_cancel();
    assert_eq!(children(&root), 1);
    drop((child, cancel));
    assert_eq!(children(&root), 1, "a descendant still needs it");
    drop(below);
    assert_eq!(children(&root), 0);

    let (child, cancel) = root.with_cancel();
    drop(child);
    assert_eq!(children(&root), 1, "the Cancel still needs it");
    drop(cancel);
    assert_eq!(children(&root), 0);
}

/// A registered function keeps its context linked. Stopping it releases all that only it needed.
// GO-CASES K9
#[test]
fn functions_are_unlinked() {
    let (root, _cancel) = Context::background().with_cancel();
    let held = Arc::new(());
    let after = {
        let (middle, _cancel) = root.with_cancel();
        let (ctx, _cancel) = middle.with_timeout(HOUR);
        let held = held.clone();
        ctx.after_func(move || drop(held))
    };
    assert_eq!(children(&root), 1);
    assert!(after.stop());
    assert_eq!(Arc::strong_count(&held), 1);
    drop(after);
    assert_eq!(children(&root), 0);
}

/// Nothing is left of a tree: neither its nodes nor what its functions held.
// GO-CASES K9
#[test]
fn nothing_leaks() {
    let held = Arc::new(());
    let mut weak = Vec::new();
    {
        let (root, _cancel) = Context::background().with_cancel();
        let mut ctx = root.clone();
        for i in 0..5 {
            ctx = if i % 2 == 0 { ctx.with_timeout(HOUR).0 } else { ctx.with_cancel().0 };
            let canceler: &Arc<Canceler> = ctx.0.handle.as_ref().expect("cancellable");
            weak.push(Arc::downgrade(canceler));
            let held = held.clone();
            if i < 4 {
                ctx.with_value(i); // dropped at once
            } else {
                let (cancelled, cancel) = root.with_cancel();
                cancelled.interrupt(&Arc::new(Interrupt::new()));
                cancel.cancel();
                drop(held);
            }
        }
        assert!(weak.iter().all(|weak| weak.strong_count() > 0));
    }
    assert!(weak.iter().all(|weak| weak.strong_count() == 0));
    assert_eq!(Arc::strong_count(&held), 1);

    // With functions that nothing can trigger any more: the root is gone, and so are they.
    let weak = {
        let (root, _cancel) = Context::background().with_cancel();
        let (ctx, _cancel) = root.with_cancel();
        let held = held.clone();
        ctx.after_func(move || drop(held));
        Arc::downgrade(ctx.0.handle.as_ref().expect("cancellable") as &Arc<Canceler>)
    };
    assert_eq!(weak.strong_count(), 0);
    assert_eq!(Arc::strong_count(&held), 1);
}
