use std::collections::VecDeque;

use futures::future::join_all;
use futures::poll;
use tokio::sync::Semaphore;

use super::*;

/// Gives these answers, one for each look-up that is let; without a further one it fails.
struct Script {
    answers: Mutex<VecDeque<Vec<SocketAddr>>>,
    asked: AtomicU64,
    open: Semaphore,
}

impl Script {
    fn new(answers: &[&[&str]], open: usize) -> Arc<Self> {
        let parsed = |answer: &&[&str]| answer.iter().map(|a| a.parse().unwrap()).collect();
        Arc::new(Script {
            answers: Mutex::new(answers.iter().map(parsed).collect()),
            asked: AtomicU64::new(0),
            open: Semaphore::new(open),
        })
    }

    fn resolver(self: &Arc<Self>) -> Resolver {
        let options = ResolverOptions {
            lookup: self.clone(),
            ..ResolverOptions::default()
        };
        Resolver::with_options("origin.test:80", options).unwrap()
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Lookup for Script {
    fn lookup<'a>(&'a self, name: &'a str) -> LookupFuture<'a> {
        assert_eq!(name, "origin.test:80");
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            self.open.acquire().await.unwrap().forget();
            let answer = self.answers.lock().pop_front();
            answer.ok_or_else(|| io::Error::other("no such host"))
        })
    }
}

/// Lets tasks that can go on do so.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

async fn after(secs: u64) {
    tokio::time::advance(Duration::from_secs(secs)).await;
}

const A: &str = "192.0.2.1:80";
const B: &str = "192.0.2.2:80";

async fn first(resolver: &Resolver) -> String {
    resolver.pick(0).await.unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn one_look_up_serves_all_who_wait_and_then_its_time_to_live() {
    let script = Script::new(&[&[A, B], &[B]], 0);
    let resolver = script.resolver();
    let mut picking = Box::pin(join_all((0..5).map(|n| resolver.pick(n))));
    assert!(poll!(&mut picking).is_pending());
    script.open.add_permits(1);
    let picked = picking.await.into_iter();
    let picked: Vec<String> = picked.map(|a| a.unwrap().to_string()).collect();
    assert_eq!(picked, [A, B, A, B, A]);
    after(29).await;
    assert_eq!(first(&resolver).await, A);
    settle().await;
    assert_eq!(script.asked(), 1);

    // What is known is used while it is asked for again, by one task.
    after(2).await;
    for _ in 0..3 {
        assert_eq!(first(&resolver).await, A);
        settle().await;
    }
    assert_eq!(script.asked(), 2);
    script.open.add_permits(1);
    settle().await;
    assert_eq!(first(&resolver).await, B);
    assert_eq!(resolver.addresses().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_answer_outlives_failures() {
    let script = Script::new(&[&[A]], 100);
    let resolver = script.resolver();
    assert_eq!(first(&resolver).await, A);
    after(31).await;
    for asked in [2, 3] {
        assert_eq!(first(&resolver).await, A);
        settle().await;
        assert_eq!(script.asked(), asked);
        // A failure is not repeated for each request.
        assert_eq!(first(&resolver).await, A);
        settle().await;
        assert_eq!(script.asked(), asked);
        after(6).await;
    }
    script.answers.lock().push_back(vec![B.parse().unwrap()]);
    assert_eq!(first(&resolver).await, A);
    settle().await;
    assert_eq!(first(&resolver).await, B);
}

#[tokio::test(start_paused = true)]
async fn a_first_failure_is_told_to_those_who_waited_for_it() {
    let script = Script::new(&[], 0);
    let resolver = script.resolver();
    let mut picking = Box::pin(join_all((0..3).map(|n| resolver.pick(n))));
    assert!(poll!(&mut picking).is_pending());
    script.open.add_permits(1);
    for picked in picking.await {
        let e = picked.unwrap_err();
        assert_eq!(e.etype(), &ConnectError);
        let text = e.to_string();
        assert!(text.contains("origin.test:80: no such host"), "{text}");
    }
    assert_eq!(script.asked(), 1);
    // The next one asks again, and a name without addresses is none.
    script.answers.lock().push_back(Vec::new());
    script.open.add_permits(1);
    after(1).await;
    let e = resolver.addresses().await.unwrap_err().to_string();
    assert!(e.contains("no address"), "{e}");
    script.answers.lock().push_back(vec![A.parse().unwrap()]);
    script.open.add_permits(1);
    after(1).await;
    assert_eq!(first(&resolver).await, A);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_has_a_limit_and_whoever_leaves_does_not_end_it_for_others() {
    let script = Script::new(&[&[A]], 0);
    let resolver = script.resolver();
    let since = Instant::now();
    let e = resolver.pick(0).await.unwrap_err().to_string();
    assert!(e.contains("no answer within 10s"), "{e}");
    assert_eq!(since.elapsed().as_secs(), 10);
    let mut left = Box::pin(resolver.pick(0));
    assert!(poll!(&mut left).is_pending());
    let mut waits = Box::pin(resolver.pick(0));
    assert!(poll!(&mut waits).is_pending());
    drop(left);
    script.open.add_permits(1);
    assert_eq!(waits.await.unwrap().to_string(), A);
}

#[tokio::test]
async fn an_address_is_not_looked_up() {
    for literal in ["127.0.0.1:80", "[::1]:80"] {
        let resolver = Resolver::new(literal).unwrap();
        assert_eq!(first(&resolver).await, literal);
        assert!(resolver.refresh().await.is_ok());
        assert_eq!(resolver.name(), literal);
    }
}

#[tokio::test]
async fn the_system_knows_localhost() {
    let resolver = Resolver::new("localhost:80").unwrap();
    resolver.refresh().await.unwrap();
    let all = resolver.addresses().await.unwrap();
    assert!(all.iter().all(|a| a.ip().is_loopback() && a.port() == 80));
    assert_eq!(resolver.pick(all.len()).await.unwrap(), all[0]);
}

#[test]
fn what_is_no_host_with_a_port() {
    for bad in [
        "", ":", "a", "a:", ":80", "a:+1", "a:65536", "a:b", "::1:80", "[::1]", "a b:80", "a/b:80",
    ] {
        let e = Resolver::new(bad).err().unwrap();
        assert!(e.to_string().contains(&format!("{bad:?}")), "{e}");
    }
    for good in ["a:0", "a_b.example.:65535", "xn--p1ai:80"] {
        assert!(Resolver::new(good).is_ok(), "{good}");
    }
}
