//! Several calls at once, but not all, and not for ever.

use std::future::Future;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::domain::fault::{Fault, FaultKind};
use crate::drive::CALL_TIMEOUT;

/// How many calls of one kind run at once: ELBv2 answers 40 Describe calls in a burst and 10 a second after that, for
/// the whole account.
const WIDTH: usize = 5;

/// Runs these futures, a few at a time. The results are in their order.
pub(crate) async fn at_once<T, F>(calls: impl IntoIterator<Item = F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut waiting = calls.into_iter().enumerate();
    let mut running = JoinSet::new();
    let mut done = Vec::new();
    loop {
        while running.len() < WIDTH
            && let Some((place, call)) = waiting.next()
        {
            running.spawn(async move { (place, call.await) });
        }
        match running.join_next().await {
            Some(Ok(result)) => done.push(result),
            // Nobody aborts these tasks: they end with the set.
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => break,
        }
    }
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Every single call has its time-outs; this is for several in a row.
pub(crate) async fn in_time<T>(operation: &str, calls: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    before(Instant::now() + CALL_TIMEOUT, operation, calls).await
}

/// As [`in_time`], for calls that others of the same look may keep waiting: they share the end.
pub(crate) async fn before<T>(
    end: Instant,
    operation: &str,
    calls: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::time::timeout_at(end, calls).await.unwrap_or_else(|_| {
        let words = format!("not done within {} s", CALL_TIMEOUT.as_secs());
        Err(Fault::new(FaultKind::Other, operation, words))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn the_end_that_calls_share_is_a_fault() {
        let silent = before(Instant::now(), "a:B", std::future::pending::<Result<(), Fault>>());
        let fault = silent.await.unwrap_err();
        assert_eq!((fault.kind, fault.operation.as_str()), (FaultKind::Other, "a:B"));
    }

    #[tokio::test]
    async fn keeps_the_order_and_the_width() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let calls = (0..20).map(|n| {
            let (running, most) = (running.clone(), most.clone());
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Later ones end earlier.
                for _ in n..20 {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::SeqCst);
                n
            }
        });
        assert_eq!(at_once(calls).await, (0..20).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), WIDTH);
    }
}
