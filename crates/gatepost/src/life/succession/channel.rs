//! Messages with descriptors, over a pair of sockets that keep message borders (SOCK_SEQPACKET).

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// Descriptors in one message; Linux takes 253.
pub(super) const DESCRIPTORS: usize = 64;
/// Octets in one message.
const LONGEST: usize = 64 * 1024;

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Both ends of a new one.
    pub(super) fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel(ours), theirs))
    }

    /// An end that came with the start.
    pub(super) fn over(socket: OwnedFd) -> Channel {
        Channel(socket)
    }

    /// How long a message may take, to come or to be taken.
    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(patience))?;
        Ok(set_socket_timeout(&self.0, Timeout::Send, Some(patience))?)
    }

    /// Sends a message and up to [`DESCRIPTORS`] descriptors.
    pub(super) fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        if text.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"));
        }
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let all = descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors));
        if !all || descriptors.len() > DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
        }
        // Without NOSIGNAL a peer that is gone would end this process.
        sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message and its descriptors. `None`: the other side is gone.
    pub(super) fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut text = vec![0u8; LONGEST];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                Err(e) => return Err(e.into()),
                Ok(got) => break got,
            }
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                descriptors.extend(passed);
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other("descriptors were lost on the way: the limit of descriptors is too low (LimitNOFILE=)"));
        }
        if got.bytes == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(text.get(..got.bytes).unwrap_or_default())?;
        Ok(Some((message, descriptors)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn a_socket_that_is_handed_over_keeps_its_queue() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::over(theirs);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let waiting = TcpStream::connect(address).unwrap();
        ours.send(&"listener", &[socket.as_fd()]).unwrap();
        drop(socket);
        let (word, mut passed) = theirs.receive::<String>().unwrap().unwrap();
        assert_eq!((&*word, passed.len()), ("listener", 1));
        let taken = TcpListener::from(passed.remove(0));
        assert_eq!(taken.accept().unwrap().1, waiting.local_addr().unwrap());
    }

    #[test]
    fn ends_silence_and_rubbish_are_told_apart() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::over(theirs);
        theirs.set_patience(Duration::from_millis(10)).unwrap();
        assert_eq!(theirs.receive::<String>().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        ours.send(&7, &[]).unwrap();
        assert_eq!(theirs.receive::<String>().unwrap_err().kind(), io::ErrorKind::InvalidData);
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let many = vec![socket.as_fd(); DESCRIPTORS + 1];
        assert!(ours.send(&"many", &many).is_err());
        drop(ours);
        assert!(theirs.receive::<String>().unwrap().is_none());
        assert!(theirs.send(&"gone", &[]).is_err());
    }
}
