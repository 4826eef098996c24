//! Accepting under trouble.

use relay::listen::{AcceptStats, Doorway, bind, shared};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;
use std::fs::File;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The limit is the process's, so the scene runs in a process of its own: this test binary, with only that test.
#[test]
fn running_out_of_descriptors_is_survived() {
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "accepting::out_of_descriptors", "--ignored", "--nocapture"])
        .status()
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
#[ignore = "lowers the descriptor limit of its process; started by running_out_of_descriptors_is_survived"]
async fn out_of_descriptors() {
    let mut doorway = Doorway::new(bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0)).unwrap();
    let addr = doorway.local_addr().unwrap();
    survives(&mut doorway, || TcpStream::connect(addr).unwrap()).await;
    // The same at a unix socket, of which another shard has a copy.
    let path = std::env::temp_dir().join(format!("relay-accepting-{}", std::process::id()));
    let sockets = shared(vec![UnixListener::bind(&path).unwrap().into()], 2).unwrap();
    let mut doorways: Vec<Doorway> = sockets.into_iter().map(|socket| Doorway::new(socket).unwrap()).collect();
    survives(&mut doorways[0], || UnixStream::connect(&path).unwrap()).await;
    std::fs::remove_file(&path).unwrap();
}

async fn survives<S: Read + Send + 'static>(doorway: &mut Doorway, call: impl Fn() -> S) {
    let stats = AcceptStats::default();
    // The client's descriptor exists before the limit is reached.
    let mut turned_away = call();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: limit.maximum }).unwrap();
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    let told = tokio::task::spawn_blocking(move || turned_away.read(&mut [0]).unwrap_or(0));
    tokio::select! {
        told = told => assert_eq!(told.unwrap(), 0, "closed, not served"),
        _ = doorway.accept(&stats) => panic!("served without a descriptor"),
    }
    assert_eq!(stats.turned_away.load(Ordering::Relaxed), 1);
    assert_eq!(stats.accepted.load(Ordering::Relaxed), 0);
    // Descriptors return, and so does service.
    hoard.clear();
    let _client = call();
    doorway.accept(&stats).await;
    assert!(stats.pauses.load(Ordering::Relaxed) >= 1);
}

#[tokio::test]
async fn connections_that_die_in_the_queue_do_no_harm() {
    let mut doorway = Doorway::new(bind("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0)).unwrap();
    let addr = doorway.local_addr().unwrap();
    let stats = AcceptStats::default();
    for _ in 0..200 {
        let gone = TcpStream::connect(addr).unwrap();
        SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let alive = TcpStream::connect(addr).unwrap();
    loop {
        let (stream, peer) = doorway.accept(&stats).await;
        // A dead connection may show itself only now, and must be an error, not a panic.
        let conn = stream.tune().and_then(|()| relay::Conn::clear(stream));
        if peer == alive.local_addr().unwrap() {
            assert_eq!(conn.unwrap().peer_addr(), peer);
            return;
        }
    }
}

/// Each shard accepts from its own socket, and between them they serve everybody.
#[test]
fn shards_share_the_load_of_one_port() {
    let sockets = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    let addr = sockets[0].local_addr().unwrap();
    let sockets: Arc<Vec<_>> = Arc::new(sockets.into_iter().map(|s| std::sync::Mutex::new(Some(s))).collect());
    let (tell, told) = std::sync::mpsc::channel();
    let shards = relay::shard::spawn_shards(2, move |index| {
        let (sockets, tell) = (sockets.clone(), tell.clone());
        async move {
            let mut doorway = Doorway::new(sockets[index].lock().unwrap().take().unwrap()).unwrap();
            let stats = AcceptStats::default();
            while tell.send(doorway.accept(&stats).await.1).is_ok() {}
        }
    })
    .unwrap();
    for _ in 0..50 {
        let client = TcpStream::connect(addr).unwrap();
        assert_eq!(told.recv().unwrap(), client.local_addr().unwrap());
    }
    // With nobody listening the next accept ends each shard; both must get one.
    drop(told);
    for shard in shards {
        while !shard.is_finished() {
            let _ = TcpStream::connect(addr);
            std::thread::sleep(Duration::from_millis(1));
        }
        shard.join().unwrap();
    }
}
