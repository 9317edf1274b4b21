//! The two sockets of a DHCP client: one beside the kernel's IP, while there is no address, and an
//! ordinary one when there is.
//!
//! <https://man7.org/linux/man-pages/man7/packet.7.html>

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket as StdUdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind,
    recvfrom, sendto, setsockopt, socket, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;

use super::Client;
use super::frame::{self, CLIENT_PORT, SERVER_PORT};
use crate::netlink::{IfIndex, MacAddr};

/// Longer than any Ethernet frame without jumbo extensions; DHCP servers do not send longer ones
/// unless asked to.
const LONGEST_FRAME_BYTES: usize = 2048;

const FLAGS: SockFlag = SockFlag::SOCK_NONBLOCK.union(SockFlag::SOCK_CLOEXEC);

/// Sends and hears whole frames.
///
/// The socket hears all interfaces and picks its own: binding it to one takes an address that no
/// safe function makes, and the machine has no address, so that little else is to be heard.
#[derive(Debug)]
pub(super) struct RawSocket {
    fd: AsyncFd<OwnedFd>,
    index: IfIndex,
    /// Names the interface to the kernel; the frame itself says to whom it goes.
    via: LinkAddr,
}

impl RawSocket {
    pub(super) fn open(client: &Client) -> io::Result<Self> {
        let via = link_address(client.index)?;
        let fd = socket(AddressFamily::Packet, SockType::Raw, FLAGS, SockProtocol::EthIp)?;
        #[expect(deprecated, reason = "unsound for types that may change their descriptor only")]
        let fd = AsyncFd::new(fd)?;
        Ok(Self { fd, index: client.index, via })
    }

    pub(super) async fn broadcast(&self, from: MacAddr, message: &[u8]) -> io::Result<()> {
        let frame = frame::broadcast(from, message);
        let send = |fd: &OwnedFd| {
            Ok(sendto(fd.as_raw_fd(), &frame, &self.via, MsgFlags::empty()).map(drop)?)
        };
        self.fd.async_io(Interest::WRITABLE, send).await
    }

    /// The next message to a DHCP client on this interface.
    pub(super) async fn receive(&self) -> io::Result<Vec<u8>> {
        let mut frame = [0; LONGEST_FRAME_BYTES];
        loop {
            let hear = |fd: &OwnedFd| Ok(recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut frame)?);
            let (bytes, from) = self.fd.async_io(Interest::READABLE, hear).await?;
            let is_ours =
                from.is_some_and(|from| u32::try_from(from.ifindex()) == Ok(self.index.0));
            if let Some(message) = frame::payload(&frame[..bytes]).filter(|_| is_ours) {
                return Ok(message.to_owned());
            }
        }
    }
}

/// What the kernel calls the interface in addresses of packet sockets.
fn link_address(index: IfIndex) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter_map(|interface| interface.address?.as_link_addr().copied())
        .find(|address| u32::try_from(address.ifindex()) == Ok(index.0))
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Sends and hears messages from the address that the interface carries.
#[derive(Debug)]
pub(super) struct BoundSocket(UdpSocket);

impl BoundSocket {
    pub(super) fn open(client: &Client) -> io::Result<Self> {
        let fd = socket(AddressFamily::Inet, SockType::Datagram, FLAGS, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        setsockopt(&fd, sockopt::Broadcast, &true)?;
        setsockopt(&fd, sockopt::BindToDevice, &client.interface.as_str().into())?;
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT);
        bind(fd.as_raw_fd(), &SockaddrIn::from(any))?;
        Ok(Self(UdpSocket::from_std(StdUdpSocket::from(fd))?))
    }

    pub(super) async fn send(&self, to: Ipv4Addr, message: &[u8]) -> io::Result<()> {
        self.0.send_to(message, (to, SERVER_PORT)).await.map(drop)
    }

    pub(super) async fn receive(&self) -> io::Result<Vec<u8>> {
        let mut message = [0; LONGEST_FRAME_BYTES];
        let bytes = self.0.recv(&mut message).await?;
        Ok(message[..bytes].to_owned())
    }
}
