//! Says which disk gets an image: the one that the command line describes.
//!
//! The disk is looked for before the image is fetched, and again by the flasher before it writes. Where
//! ePoxy's own `updateusb.sh` takes the only disk with a FAT file system, ours must be a USB disk, too:
//! <https://github.com/m-lab/epoxy-images/tree/main/configs>.

use agent_types::digest::{ParseDigestError, Sha256Digest};
use agent_types::disk::{Disks, Fingerprint, ParseFingerprintError};
use agent_types::params::{DiskUpdate, USBISO_SHA256, USBISO_TARGET};

use crate::flasher;
use crate::update::Change;

/// Why it is unknown which disk gets the image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The digest is none.
    #[error("cannot understand {USBISO_SHA256}")]
    Digest(#[from] ParseDigestError),
    /// The fingerprint is none.
    #[error("cannot understand {USBISO_TARGET}")]
    Target(#[from] ParseFingerprintError),
    /// No disk is meant, or several are.
    #[error("cannot choose the disk for the image")]
    Choose(#[from] flasher::Error),
}

/// The image for this machine's disk.
pub(crate) async fn change(update: &DiskUpdate) -> Result<Change, Error> {
    let (sha256, target) = (update.digest()?, update.fingerprint()?);
    let found: Disks = flasher::ask(&["disk", "list", "--target", &target.to_string()]).await?;
    found.disks.iter().for_each(|disk| log::info!("the image is for {disk}"));
    Ok(change_of(update.url.clone(), sha256, &target))
}

fn change_of(url: String, sha256: Option<Sha256Digest>, target: &Fingerprint) -> Change {
    let mut options =
        ["disk", "write", "--target", &target.to_string()].map(str::to_owned).to_vec();
    if let Some(sha256) = sha256 {
        options.extend(["--sha256".to_owned(), sha256.to_string()]);
    }
    Change { kind: "usbiso", url, sha256, options, file_option: "--image", backup: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::tests::shown;

    #[test]
    fn the_flasher_is_told_the_disk_and_the_digest() {
        let digest = "ab".repeat(32);
        let change =
            change_of("http://h/i".to_owned(), digest.parse().ok(), &Fingerprint::usb_stick());
        let command = format!(
            "/sbin/flasher disk write --target bus=usb,fs=vfat --sha256 {digest} --image file0"
        );
        assert_eq!(shown(&[change]), (vec![format!("http://h/i {digest}")], vec![command]));
        let without =
            change_of("https://h/i".to_owned(), None, &"serial=x,label=A_B".parse().unwrap());
        let command =
            "/sbin/flasher disk write --target serial=x,label=A_B --image file0".to_owned();
        assert_eq!(shown(&[without]), (vec!["https://h/i".to_owned()], vec![command]));
    }
}
