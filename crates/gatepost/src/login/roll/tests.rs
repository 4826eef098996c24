use super::*;
use relay::clock::Clock;
use wire::origin::SessionId;

fn origin(client: &str) -> Origin {
    Origin::at_accept(client.parse().unwrap(), "127.0.0.1:143".parse().unwrap(), SessionId::from_random([7; 12]))
}

fn record(user: &str, backend: &str, origin: &Origin) -> Arc<Record> {
    let mut record = Record::new("imap", origin);
    record.user = user.into();
    record.backend = Some(backend.parse().unwrap());
    Arc::new(record)
}

#[test]
fn who_is_on_is_listed_counted_and_ended() {
    let (roll, clock) = (Roll::default(), Clock::new());
    let at: ListenAt = "127.0.0.1:143".parse().unwrap();
    let one = roll.enter("imap", &at, &origin("192.0.2.1:1"), &clock);
    let two = roll.enter("imap", &at, &origin("192.0.2.2:2"), &clock);
    one.signing_in(Some("alice"));
    assert_eq!((roll.all().len(), one.state()), (2, State::SigningIn));
    assert_eq!(View::of(&one).user.as_ref(), "alice");
    assert_eq!(View::of(&one).state, State::SigningIn);
    one.relay(record("alice@example.com", "10.0.0.1:143", &origin("192.0.2.1:1")), Duration::from_secs(60));
    assert_eq!((one.state(), two.state()), (State::Relayed, State::Talking));

    let by = |filter: Filter| roll.kick(&filter);
    assert_eq!(by(Filter { user: vec!["bob*".parse().unwrap()], ..Filter::default() }), 0);
    assert_eq!(by(Filter { backend: vec!["10.0.0.0/8".parse().unwrap()], ..Filter::default() }), 1);
    assert_eq!(one.slot().order(), Some(EndOrder::Kicked));
    assert_eq!(by(Filter { user: vec!["*".parse().unwrap()], ..Filter::default() }), 0, "it has its order already");
    assert_eq!(by(Filter { client: vec![net("192.0.2.2").unwrap()], ..Filter::default() }), 1);
    assert_eq!(two.slot().order(), Some(EndOrder::Kicked));
    drop((one, two));
    assert_eq!(roll.all().len(), 0);
}

#[test]
fn the_roll_does_not_grow_with_those_that_are_gone() {
    let (roll, clock) = (Roll::default(), Clock::new());
    for _ in 0..10_000 {
        drop(roll.enter("imap", &"127.0.0.1:143".parse().unwrap(), &origin("192.0.2.1:1"), &clock));
    }
    assert!(roll.lock().capacity() <= 256, "{}", roll.lock().capacity());
}
