use super::*;
use std::net::{IpAddr, Ipv4Addr};
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

const GIVE_UP: Duration = Duration::from_secs(30);

/// What is known of an address at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// Logins between connect and greeting.
    in_flight: usize,
    /// Logins that queue for it.
    waiting: usize,
    /// Sessions that are relayed there.
    sessions: usize,
    last_success: Option<Instant>,
    /// There were failures since.
    failing: bool,
}

impl Health {
    /// `None` where nobody used the address lately.
    fn seen(&self, at: Place) -> Option<Seen> {
        let known = lock(&self.table).get(&at).cloned()?;
        let state = lock(&known.state);
        Some(Seen {
            in_flight: IN_FLIGHT.saturating_sub(known.permits.available_permits()),
            waiting: known.waiting.load(Ordering::Relaxed),
            sessions: known.sessions.load(Ordering::Relaxed),
            last_success: state.last_success,
            failing: state.trouble.is_some(),
        })
    }
}

fn addr(n: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)), 143)
}

fn at(n: u32) -> Place {
    clear(addr(n))
}

fn clear(at: SocketAddr) -> Place {
    Place { at, implicit_tls: false, source: None, protocol: "imap" }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn soon() -> Instant {
    Instant::now() + secs(30)
}

async fn enter(health: &Health, n: u32) -> Attempt {
    health.enter(at(n), soon(), GIVE_UP).await.unwrap()
}

/// An address that has failed for longer than `GIVE_UP`, with the next probe due.
async fn dead(health: &Health, n: u32) {
    enter(health, n).await.failed("connect: refused", None);
    advance(GIVE_UP + millis(1)).await;
}

/// As the next probe.
async fn enter_later(health: &Health, n: u32) -> Attempt {
    advance(secs(2)).await;
    enter(health, n).await
}

async fn is_refused(health: &Health, n: u32) -> bool {
    match health.enter(at(n), soon(), GIVE_UP).await {
        Ok(attempt) => {
            attempt.failed("connect: refused", None);
            false
        }
        Err(Refused::Down { .. }) => true,
        Err(busy) => panic!("{busy}"),
    }
}

async fn fill(health: &Health, n: u32) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for _ in 0..IN_FLIGHT {
        attempts.push(enter(health, n).await);
    }
    attempts
}

/// Lets the other tasks run until the queue is so long.
async fn queued(health: &Health, n: u32, waiting: usize) {
    while health.seen(at(n)).unwrap().waiting != waiting {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn number_129_waits_and_gets_its_turn() {
    let health = Arc::new(Health::default());
    let mut attempts = fill(&health, 1).await;
    assert_eq!(health.seen(at(1)).unwrap().in_flight, IN_FLIGHT);
    let theirs = Arc::clone(&health);
    let waits = tokio::spawn(async move { theirs.enter(at(1), soon(), GIVE_UP).await });
    queued(&health, 1, 1).await;
    assert!(health.enter(at(2), Instant::now(), GIVE_UP).await.is_ok(), "other addresses have permits of their own");
    assert!(!waits.is_finished());
    assert_eq!(attempts.pop().unwrap().connected(), None);
    let attempt = waits.await.unwrap().unwrap();
    assert_eq!(health.seen(at(1)).unwrap().in_flight, IN_FLIGHT);
    assert_eq!(attempt.connected(), None);
    drop(attempts);
    let seen = health.seen(at(1)).unwrap();
    assert_eq!((seen.in_flight, seen.waiting), (0, 0));
    assert!(seen.last_success.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_first_come_first_served() {
    let health = Arc::new(Health::default());
    let mut attempts = fill(&health, 1).await;
    let (served, mut serving) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..10 {
        let (theirs, served) = (Arc::clone(&health), served.clone());
        tokio::spawn(async move {
            let attempt = theirs.enter(at(1), soon(), GIVE_UP).await;
            served.send((n, attempt)).unwrap();
        });
        queued(&health, 1, n + 1).await;
    }
    for n in 0..10 {
        attempts.pop();
        let (turn, attempt) = serving.recv().await.unwrap();
        assert_eq!(turn, n);
        attempts.insert(0, attempt.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_also_runs_in_the_queue() {
    let health = Health::default();
    let attempts = fill(&health, 1).await;
    let began = Instant::now();
    let first = health.enter(at(1), began + secs(5), GIVE_UP);
    let second = health.enter(at(1), began + secs(7), GIVE_UP);
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.unwrap_err(), Refused::Busy { waiting: 2 });
    let refused = second.unwrap_err();
    assert_eq!(refused, Refused::Busy { waiting: 1 });
    assert_eq!(refused.to_string(), "128 connects in flight, 1 waiting");
    assert_eq!(began.elapsed(), secs(7));
    assert_eq!(health.seen(at(1)).unwrap().waiting, 0);
    drop(attempts);
    assert!(health.enter(at(1), soon(), GIVE_UP).await.is_ok(), "who gave up holds nothing");
}

#[tokio::test(start_paused = true)]
async fn cancelled_logins_give_everything_back_and_prove_nothing() {
    let health = Arc::new(Health::default());
    let attempts = fill(&health, 1).await;
    let mut waiting = JoinSet::new();
    for _ in 0..50 {
        let theirs = Arc::clone(&health);
        waiting.spawn(async move { theirs.enter(at(1), soon(), GIVE_UP).await.map(drop) });
    }
    queued(&health, 1, 50).await;
    waiting.shutdown().await;
    drop(attempts);
    let seen = health.seen(at(1)).unwrap();
    assert_eq!(seen, Seen { in_flight: 0, waiting: 0, sessions: 0, last_success: None, failing: false });
    assert_eq!(fill(&health, 1).await.len(), IN_FLIGHT);
}

#[tokio::test(start_paused = true)]
async fn failures_are_only_refused_at_once_after_a_while() {
    let health = Health::default();
    let began = Instant::now();
    assert_eq!(enter(&health, 1).await.failed("connect: refused", None), Some(Transition::Down));
    while began.elapsed() < GIVE_UP {
        advance(millis(500)).await;
        assert!(!is_refused(&health, 1).await, "after {:?}", began.elapsed());
    }
    advance(millis(1)).await;
    assert!(!is_refused(&health, 1).await, "the first is the probe");
    assert!(is_refused(&health, 1).await);
    assert!(health.enter(at(1), soon(), Duration::ZERO).await.is_ok(), "zero is never");
    assert!(health.enter(at(1), soon(), GIVE_UP * 2).await.is_ok(), "another row may be more patient");
    assert!(!is_refused(&health, 2).await);
}

#[tokio::test(start_paused = true)]
async fn one_probe_a_second_goes_through() {
    let health = Health::default();
    dead(&health, 1).await;
    let mut probes: Vec<Instant> = Vec::new();
    let began = Instant::now();
    while began.elapsed() < secs(60) {
        for _ in 0..20 {
            if !is_refused(&health, 1).await {
                probes.push(Instant::now());
            }
        }
        advance(millis(10)).await;
    }
    assert_eq!(probes[0], began);
    let gaps: Vec<Duration> = probes.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps.iter().all(|gap| (millis(750)..=millis(1260)).contains(gap)), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap != gaps[0]), "they do not keep step: {gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_client_went_away_does_not_stop_the_probing() {
    let health = Health::default();
    dead(&health, 1).await;
    drop(enter(&health, 1).await);
    assert!(is_refused(&health, 1).await);
    advance(millis(1251)).await;
    assert!(!is_refused(&health, 1).await);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_refused_for_what_was_found_out_long_ago() {
    let health = Health::default();
    dead(&health, 1).await;
    assert!(!is_refused(&health, 1).await, "the probe, which fails");
    advance(FRESH).await;
    let probe = enter(&health, 1).await;
    assert!(is_refused(&health, 1).await);
    advance(millis(1)).await;
    assert!(!is_refused(&health, 1).await, "it may have been well for a minute");
    drop(probe);
    assert!(!is_refused(&health, 1).await, "what it then failed of is new trouble");
    advance(GIVE_UP + millis(1)).await;
    assert!(!is_refused(&health, 1).await, "the probe");
    assert!(is_refused(&health, 1).await, "and by now that is known for long enough");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_since_when_and_why() {
    let health = Health::default();
    let began = Instant::now();
    enter(&health, 1).await.connected();
    advance(secs(100)).await;
    enter(&health, 1).await.failed("connect: no answer", None);
    advance(secs(40)).await;
    let long = "refused \u{fffd}".repeat(1000);
    enter(&health, 1).await.failed(&long, None);
    let refused = health.enter(at(1), soon(), GIVE_UP).await.unwrap_err();
    let text: String = long.chars().take(200).collect();
    assert_eq!(refused.to_string(), format!("down for 40 s (last success 140 s ago): {text}"));
    assert_eq!(
        refused,
        Refused::Down { since: began + secs(100), last_success: Some(began), text: text.as_str().into() },
        "failing counts from the first failure, and the text is the last one's"
    );
    dead(&health, 2).await;
    drop(enter(&health, 2).await);
    let refused = health.enter(at(2), soon(), GIVE_UP).await.unwrap_err();
    assert_eq!(refused.to_string(), "down for 30 s (no success yet): connect: refused");
}

#[tokio::test(start_paused = true)]
async fn a_revived_backend_is_open_to_all_at_once() {
    let health = Health::default();
    dead(&health, 1).await;
    let probe = enter(&health, 1).await;
    assert!(is_refused(&health, 1).await);
    advance(millis(20)).await;
    assert_eq!(probe.connected(), Some(Transition::Up { after: GIVE_UP + millis(21) }));
    assert_eq!(fill(&health, 1).await.len(), IN_FLIGHT);
    assert!(!health.seen(at(1)).unwrap().failing);
    advance(secs(100)).await;
    enter(&health, 1).await.failed("connect: refused", None);
    advance(secs(1)).await;
    assert!(!is_refused(&health, 1).await, "the next trouble counts from its own first failure");
}

#[tokio::test(start_paused = true)]
async fn a_dead_backend_sends_its_whole_queue_home() {
    let health = Arc::new(Health::default());
    let give_up = secs(2);
    let mut attempts = fill(&health, 1).await;
    attempts.pop().unwrap().failed("connect: no answer", None);
    attempts.push(enter(&health, 1).await);
    let mut logins = JoinSet::new();
    for _ in 0..10_000 {
        let theirs = Arc::clone(&health);
        logins.spawn(async move {
            let attempt = theirs.enter(at(1), soon(), give_up).await?;
            sleep(secs(5)).await;
            attempt.failed("connect: no answer", None);
            Ok::<(), Refused>(())
        });
    }
    queued(&health, 1, 10_000).await;
    advance(secs(5)).await;
    let began = Instant::now();
    for attempt in attempts {
        attempt.failed("connect: no answer", None);
    }
    let mut tried = 0;
    while let Some(login) = logins.join_next().await {
        match login.unwrap() {
            Ok(()) => tried += 1,
            Err(refused) => assert!(matches!(refused, Refused::Down { .. }), "{refused}"),
        }
    }
    assert_eq!(tried, 1, "the probe");
    assert_eq!(began.elapsed(), secs(5), "nobody waited for more than the probe");
}

#[tokio::test(start_paused = true)]
async fn each_transition_is_told_once() {
    let health = Health::default();
    assert_eq!(enter(&health, 1).await.connected(), None);
    let (first, second) = (enter(&health, 1).await, enter(&health, 1).await);
    assert_eq!(first.failed("a", None), Some(Transition::Down));
    assert_eq!(second.failed("b", None), None);
    advance(secs(3)).await;
    let (first, second) = (enter(&health, 1).await, enter(&health, 1).await);
    assert_eq!(first.connected(), Some(Transition::Up { after: secs(3) }));
    assert_eq!(second.connected(), None);
}

#[tokio::test(start_paused = true)]
async fn a_flapping_backend_does_not_fill_the_journal() {
    let health = Health::default();
    let mut told = Vec::new();
    for _ in 0..1000 {
        told.extend(enter(&health, 1).await.failed("refused", None));
        advance(millis(10)).await;
        told.extend(enter(&health, 1).await.connected());
        advance(millis(90)).await;
    }
    assert!((18..=20).contains(&told.len()), "{}", told.len());
    let alternate = told.chunks(2).all(|two| matches!(two, [Transition::Down, Transition::Up { .. }]));
    assert!(alternate, "{told:?}");
    // A trouble that was not told at first is told if it lasts.
    enter(&health, 2).await.failed("refused", None);
    enter(&health, 2).await.connected();
    advance(millis(1)).await;
    assert_eq!(enter(&health, 2).await.failed("refused", None), None);
    advance(CALM).await;
    assert_eq!(enter(&health, 2).await.failed("refused", None), Some(Transition::Down));
}

#[tokio::test(start_paused = true)]
async fn a_failure_from_before_the_last_success_is_not_heard() {
    let health = Health::default();
    let old = enter(&health, 1).await;
    advance(secs(3)).await;
    enter(&health, 1).await.connected();
    advance(secs(2)).await;
    assert_eq!(old.failed("connect: no answer", None), None);
    assert!(!health.seen(at(1)).unwrap().failing);
    assert_eq!(enter(&health, 1).await.failed("connect: no answer", None), Some(Transition::Down));
}

#[tokio::test(start_paused = true)]
async fn addresses_that_work_come_first() {
    let health = Health::default();
    let ordered = |wanted: &[u32]| {
        let mut addresses: Vec<SocketAddr> = [1, 2, 3, 4].map(addr).to_vec();
        health.order(&mut addresses, clear);
        assert_eq!(addresses, wanted.iter().map(|n| addr(*n)).collect::<Vec<_>>());
    };
    ordered(&[1, 2, 3, 4]);
    assert_eq!(health.seen(at(1)), None, "to ask is not to know");
    enter(&health, 3).await.failed("refused", None);
    enter(&health, 1).await.failed("refused", None);
    ordered(&[2, 4, 1, 3]);
    enter(&health, 1).await.connected();
    ordered(&[1, 2, 4, 3]);
    advance(millis(7400)).await;
    ordered(&[1, 2, 4, 3]);
    advance(millis(5200)).await;
    ordered(&[1, 2, 3, 4]);
    ordered(&[1, 2, 4, 3]);
    health.order(&mut [], clear);
}

#[tokio::test(start_paused = true)]
async fn sessions_are_counted_and_leave_in_turn() {
    let health = Health::default();
    let sessions: Vec<SessionHere> = (0..150).map(|_| health.session(at(1))).collect();
    let other = health.session(at(2));
    assert_eq!((sessions[0].count(), other.count()), (150, 1));
    let (spread, now) = (secs(10), Instant::now());
    let mut delays = Vec::new();
    for session in sessions {
        delays.push(session.delay(spread, now));
    }
    assert_eq!(delays.iter().filter(|delay| delay.is_zero()).count(), 15);
    assert!(delays.is_sorted() && delays[149] < spread);
    assert_eq!(other.delay(spread, now), Duration::ZERO, "each backend has its own turns");
    assert_eq!(health.seen(at(1)).unwrap().sessions, 0);
    assert_eq!(health.seen(at(2)).unwrap().sessions, 1);
}

#[tokio::test(start_paused = true)]
async fn the_table_is_bounded_and_forgets_the_longest_unused() {
    let health = Health::default();
    let most = u32::try_from(KNOWN_MAX).unwrap();
    let kept = health.session(at(0));
    let tried = enter(&health, 1).await;
    for n in 2..most {
        enter(&health, n).await.failed("refused", None);
        advance(millis(1)).await;
    }
    drop(enter(&health, 2).await);
    assert_eq!(lock(&health.table).len(), KNOWN_MAX);
    enter(&health, most).await.failed("refused", None);
    assert_eq!(lock(&health.table).len(), KNOWN_MAX - KNOWN_MAX / 8 + 1);
    assert!(health.seen(at(0)).is_some() && health.seen(at(1)).is_some(), "in use");
    assert!(health.seen(at(2)).is_some(), "used again");
    assert_eq!(health.seen(at(3)), None);
    assert_eq!(health.seen(at(2 + most / 8)), None);
    assert!(health.seen(at(3 + most / 8)).is_some());
    for n in 0..3 * most {
        drop(health.session(at(n)));
        assert!(lock(&health.table).len() <= KNOWN_MAX);
    }
    assert_eq!(kept.count(), 1);
    drop(tried);
}

#[tokio::test(start_paused = true)]
async fn a_table_full_of_backends_in_use_still_lets_logins_through() {
    let health = Health::default();
    let most = u32::try_from(KNOWN_MAX).unwrap();
    let sessions: Vec<SessionHere> = (0..most).map(|n| health.session(at(n))).collect();
    for _ in 0..3 {
        assert_eq!(enter(&health, most).await.failed("refused", None), Some(Transition::Down));
        assert_eq!(health.session(at(most)).count(), 1);
    }
    assert_eq!(lock(&health.table).len(), KNOWN_MAX);
    assert_eq!(health.seen(at(most)), None);
    drop(sessions);
    enter(&health, most).await.connected();
    assert!(health.seen(at(most)).is_some());
}

/// How many logins are inside, and the most that ever were.
#[derive(Default)]
struct Crowd {
    inside: AtomicUsize,
    most: AtomicUsize,
}

/// One login of a crowd; `n` chooses how long it takes and how it ends.
async fn login(health: Arc<Health>, crowd: Arc<Crowd>, n: usize) {
    let by = Instant::now() + secs(300);
    let attempt = health.enter(at(1), by, Duration::ZERO).await.unwrap();
    crowd.most.fetch_max(crowd.inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    for _ in 0..n % 7 {
        tokio::task::yield_now().await;
    }
    crowd.inside.fetch_sub(1, Ordering::SeqCst);
    match n % 4 {
        0 => drop(attempt.connected()),
        1 => drop(attempt.failed("refused", None)),
        2 => drop(attempt),
        _ => {
            drop(attempt);
            tokio::task::yield_now().await;
            health.session(at(1)).delay(secs(1), Instant::now());
        }
    }
}

/// Shards are threads with a runtime each, as here; the clock is the real one.
#[test]
fn many_threads_never_exceed_the_permits_and_leave_nothing_behind() {
    let (health, crowd) = (Arc::new(Health::default()), Arc::new(Crowd::default()));
    let shard = |_| {
        let (health, crowd) = (Arc::clone(&health), Arc::clone(&crowd));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let mut logins = JoinSet::new();
                for n in 0..500 {
                    logins.spawn(login(Arc::clone(&health), Arc::clone(&crowd), n));
                    if n % 5 == 0 {
                        // Never part of the crowd: it waits in the queue or holds a permit when it is cut off.
                        let health = Arc::clone(&health);
                        let gone = tokio::spawn(async move {
                            let _attempt = health.enter(at(1), Instant::now() + secs(300), Duration::ZERO).await;
                            std::future::pending::<()>().await;
                        });
                        tokio::task::yield_now().await;
                        gone.abort();
                    }
                }
                while let Some(login) = logins.join_next().await {
                    login.unwrap();
                }
            });
        })
    };
    let shards: Vec<_> = (0..4).map(shard).collect();
    for shard in shards {
        shard.join().unwrap();
    }
    assert!(crowd.most.load(Ordering::SeqCst) <= IN_FLIGHT);
    let seen = health.seen(at(1)).unwrap();
    assert_eq!((seen.in_flight, seen.waiting, seen.sessions), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_may_be_about_one_client_is_held_against_nobody_else() {
    let health = Health::default();
    let client = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
    for _ in 0..40 {
        enter(&health, 1).await.failed("closed", client(1));
        advance(secs(1)).await;
    }
    enter(&health, 1).await.failed("closed", client(2));
    advance(GIVE_UP).await;
    assert!(!is_refused(&health, 1).await, "one failure of another one condemns nobody yet");
    advance(millis(1)).await;
    assert!(!is_refused(&health, 1).await, "the probe");
    assert!(is_refused(&health, 1).await, "two of them for so long are no ban");
    assert!(matches!(enter_later(&health, 1).await.connected(), Some(Transition::Up { after }) if after > secs(70)));
}

#[tokio::test(start_paused = true)]
async fn each_way_to_a_backend_counts_by_itself() {
    let health = Health::default();
    dead(&health, 1).await;
    let _in_clear = fill(&health, 2).await;
    for (implicit_tls, source) in [(true, None), (false, Some(IpAddr::from([192, 0, 2, 1])))] {
        let place = |n| Place { at: addr(n), implicit_tls, source, protocol: "imap" };
        let _probe = health.enter(place(1), soon(), GIVE_UP).await.unwrap();
        assert!(health.enter(place(1), soon(), GIVE_UP).await.is_ok(), "not down by {:?}", place(1));
        assert!(health.enter(place(2), Instant::now(), GIVE_UP).await.is_ok(), "not full by {:?}", place(2));
    }
}
