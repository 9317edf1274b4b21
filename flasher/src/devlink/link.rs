//! The way to devlink: a socket of generic netlink, and the multicast group `config`.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_generic::ctrl::nlas::{GenlCtrlAttrs, McastGrpAttrs};
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily as _, GenlMessage};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::message::Message;

/// Where drivers say how far they are.
const GROUP: &str = "config";

/// Why devlink did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket.
    #[error("cannot {action} a netlink socket")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A kernel without devlink.
    #[error("this kernel has no devlink")]
    NoDevlink,
    /// The kernel, or the card's driver, says no.
    #[error("the kernel refuses")]
    Refused(#[source] io::Error),
    /// Not netlink.
    #[error("cannot understand devlink: {0}")]
    Decode(String),
}

/// A socket on which devlink answers.
pub(super) struct Link {
    socket: Socket,
    family: u16,
    group: u32,
}

/// A socket on which drivers say how far they are.
pub(super) struct Monitor(Socket);

fn failed(action: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Socket { action, source }
}

impl Link {
    pub(super) fn open() -> Result<Self, Error> {
        let socket = socket()?;
        let name = GenlCtrlAttrs::FamilyName(Message::family_name().to_owned());
        let question = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![name] };
        let answer = exchange(&socket, GenlMessage::from_payload(question));
        let answers = match answer {
            Err(Error::Refused(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoDevlink);
            }
            other => other?,
        };
        let attributes = answers.into_iter().flat_map(|answer| answer.payload.nlas);
        let (mut family, mut group) = (None, None);
        for attribute in attributes {
            match attribute {
                GenlCtrlAttrs::FamilyId(id) => family = Some(id),
                GenlCtrlAttrs::McastGroups(groups) => group = group_named(&groups, GROUP),
                _ => {}
            }
        }
        let (family, group) = family.zip(group).ok_or(Error::NoDevlink)?;
        Ok(Self { socket, family, group })
    }

    /// Asks, and returns what is answered.
    pub(super) fn request(&self, request: &Message) -> Result<Vec<Message>, Error> {
        let mut question = GenlMessage::from_payload(request.clone());
        question.set_resolved_family_id(self.family);
        let answers = exchange(&self.socket, question)?;
        Ok(answers.into_iter().map(|answer| answer.payload).collect())
    }

    /// Hears what drivers say from now on.
    pub(super) fn monitor(self) -> Result<Monitor, Error> {
        self.socket.add_membership(self.group).map_err(failed("subscribe"))?;
        self.socket.set_non_blocking(true).map_err(failed("set up"))?;
        Ok(Monitor(self.socket))
    }
}

impl Monitor {
    /// What was said until now; waits for it this long.
    pub(super) fn messages_within(&self, patience: Duration) -> Result<Vec<Message>, Error> {
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, patience) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(failed("wait for")(errno.into())),
        }
        let mut messages = Vec::new();
        loop {
            match self.0.recv_from_full() {
                Ok((bytes, _)) => messages.extend(inner::<GenlMessage<Message>>(&bytes)?),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // More was said than fits: the next that is said tells how far it is.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                Err(error) => return Err(failed("read")(error)),
            }
        }
        Ok(messages.into_iter().map(|message| message.payload).collect())
    }
}

fn socket() -> Result<Socket, Error> {
    let mut socket = Socket::new(NETLINK_GENERIC).map_err(failed("open"))?;
    socket.bind_auto().map_err(failed("bind"))?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(failed("connect"))?;
    Ok(socket)
}

fn group_named(groups: &[Vec<McastGrpAttrs>], name: &str) -> Option<u32> {
    let is_named =
        |group: &&Vec<McastGrpAttrs>| group.contains(&McastGrpAttrs::Name(name.to_owned()));
    groups.iter().find(is_named)?.iter().find_map(|attribute| match attribute {
        McastGrpAttrs::Id(id) => Some(*id),
        McastGrpAttrs::Name(_) => None,
    })
}

/// Sends a question and reads up to the acknowledgement.
fn exchange<T>(socket: &Socket, question: T) -> Result<Vec<T>, Error>
where
    T: NetlinkSerializable + NetlinkDeserializable + std::fmt::Debug + Into<NetlinkPayload<T>>,
{
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let mut message = NetlinkMessage::new(header, question.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).map_err(failed("write to"))?;
    let mut answers = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full().map_err(failed("read"))?;
        for message in messages::<T>(&bytes)? {
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(Error::Refused(error.to_io())),
                NetlinkPayload::Done(_) => return Ok(answers),
                _ => {}
            }
        }
    }
}

fn inner<T: NetlinkDeserializable>(bytes: &[u8]) -> Result<Vec<T>, Error> {
    let inner = |message: NetlinkMessage<T>| match message.payload {
        NetlinkPayload::InnerMessage(inner) => Some(inner),
        _ => None,
    };
    Ok(messages(bytes)?.into_iter().filter_map(inner).collect())
}

/// The messages of a datagram, each at a multiple of four bytes.
fn messages<T: NetlinkDeserializable>(bytes: &[u8]) -> Result<Vec<NetlinkMessage<T>>, Error> {
    let mut messages = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let message = NetlinkMessage::<T>::deserialize(rest)
            .map_err(|error| Error::Decode(error.to_string()))?;
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        messages.push(message);
        rest = rest.get(length.max(1).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(messages)
}
