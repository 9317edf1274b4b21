//! Messages of devlink, as `include/uapi/linux/devlink.h` numbers them.

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, Nla as _, NlasIterator, Parseable as _,
    ParseableParametrized,
};
use netlink_packet_generic::{GenlFamily, GenlHeader};

use super::{Device, Status};

const VERSION: u8 = 1;

pub(super) mod command {
    pub(in super::super) const INFO_GET: u8 = 51;
    pub(in super::super) const FLASH_UPDATE: u8 = 58;
    pub(in super::super) const FLASH_UPDATE_STATUS: u8 = 60;
}

pub(super) mod attribute {
    pub(in super::super) const BUS_NAME: u16 = 1;
    pub(in super::super) const DEV_NAME: u16 = 2;
    pub(in super::super) const VERSION_STORED: u16 = 102;
    pub(in super::super) const VERSION_NAME: u16 = 103;
    pub(in super::super) const VERSION_VALUE: u16 = 104;
    pub(in super::super) const FILE_NAME: u16 = 122;
    pub(in super::super) const COMPONENT: u16 = 123;
    pub(in super::super) const STATUS_MESSAGE: u16 = 124;
    pub(in super::super) const STATUS_DONE: u16 = 125;
    pub(in super::super) const STATUS_TOTAL: u16 = 126;
}

/// A command and its attributes, or attributes within one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    command: u8,
    attributes: Vec<DefaultNla>,
}

impl Message {
    /// A command about a device.
    pub(super) fn about(command: u8, device: &Device) -> Self {
        let mut message = Self { command, attributes: Vec::new() };
        message.add_text(attribute::BUS_NAME, &device.bus);
        message.add_text(attribute::DEV_NAME, &device.name);
        message
    }

    pub(super) fn add_text(&mut self, kind: u16, text: &str) {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.attributes.push(DefaultNla::new(kind, value));
    }

    pub(super) fn text(&self, kind: u16) -> Option<String> {
        let value = self.value(kind)?;
        let text = value.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn number(&self, kind: u16) -> Option<u64> {
        Some(u64::from_ne_bytes(self.value(kind)?.try_into().ok()?))
    }

    /// The attributes within each attribute of a kind.
    pub(super) fn nested(&self, kind: u16) -> impl Iterator<Item = Self> {
        let outer = self.attributes.iter().filter(move |attribute| attribute.kind() == kind);
        outer.filter_map(|outer| {
            Some(Self { command: self.command, attributes: attributes(&value(outer)).ok()? })
        })
    }

    /// What a driver says about this device.
    pub(super) fn status_of(&self, device: &Device) -> Option<Status> {
        let is_its = self.text(attribute::BUS_NAME)? == device.bus
            && self.text(attribute::DEV_NAME)? == device.name;
        (is_its && self.command == command::FLASH_UPDATE_STATUS).then(|| Status {
            message: self.text(attribute::STATUS_MESSAGE).unwrap_or_default(),
            done: (
                self.number(attribute::STATUS_DONE).unwrap_or_default(),
                self.number(attribute::STATUS_TOTAL).unwrap_or_default(),
            ),
        })
    }

    fn value(&self, kind: u16) -> Option<Vec<u8>> {
        self.attributes.iter().find(|attribute| attribute.kind() == kind).map(value)
    }
}

fn value(attribute: &DefaultNla) -> Vec<u8> {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    value
}

fn attributes(bytes: &[u8]) -> Result<Vec<DefaultNla>, DecodeError> {
    NlasIterator::new(bytes).map(|attribute| DefaultNla::parse(&attribute?)).collect()
}

impl GenlFamily for Message {
    fn family_name() -> &'static str {
        "devlink"
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        VERSION
    }
}

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Message {
    fn parse_with_param(buffer: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        Ok(Self { command: header.cmd, attributes: attributes(buffer)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        "netdevsim/netdevsim10".parse().unwrap()
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut message = Message::about(command::FLASH_UPDATE_STATUS, &device());
        message.add_text(attribute::STATUS_MESSAGE, "Flashing");
        let number = |kind, number: u64| DefaultNla::new(kind, number.to_ne_bytes().to_vec());
        message.attributes.push(number(attribute::STATUS_DONE, 5));
        message.attributes.push(number(attribute::STATUS_TOTAL, 70));
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        let header = GenlHeader { cmd: command::FLASH_UPDATE_STATUS, version: VERSION };
        let read = Message::parse_with_param(&bytes, header).unwrap();
        assert_eq!(read, message);
        let status = Status { message: "Flashing".to_owned(), done: (5, 70) };
        assert_eq!(read.status_of(&device()), Some(status));
        assert_eq!(read.status_of(&"pci/0000:03:00.0".parse().unwrap()), None);
    }

    #[test]
    fn versions_are_attributes_within_an_attribute() {
        let mut inner = Message { command: 0, attributes: Vec::new() };
        inner.add_text(attribute::VERSION_NAME, "fw.mgmt");
        inner.add_text(attribute::VERSION_VALUE, "10.20.30");
        let mut bytes = vec![0; inner.buffer_len()];
        inner.emit(&mut bytes);
        let outer = DefaultNla::new(attribute::VERSION_STORED, bytes);
        let message = Message { command: 0, attributes: vec![outer] };
        let nested: Vec<Message> = message.nested(attribute::VERSION_STORED).collect();
        assert_eq!(nested, [inner]);
    }
}
