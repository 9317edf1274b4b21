//! What goes into the archive, before it is written: a sorted map from path to node.
//!
//! Paths are absolute and normal (no `.`, `..`, double or trailing slash); every node's parent is a
//! directory that exists. [`Tree::add`] keeps both true, so the archive can be written in one pass.

pub mod read;

use std::collections::BTreeMap;

/// Mode of directories that exist only because something lies in them.
const IMPLIED_DIRECTORY_MODE: u32 = 0o755;

/// One file system object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory with its permission bits.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// All of its bytes.
        contents: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: String,
    },
    /// A device node: made without root, as it is only written down.
    Device {
        /// Character or block.
        kind: DeviceKind,
        /// Permission bits.
        mode: u32,
        /// Major and minor number.
        number: (u32, u32),
    },
}

/// The two kinds of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
}

/// Why a node cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The path is relative, has `.` or `..`, or is no path at all.
    #[error("expected an absolute path without `.` and `..`, got {0:?}")]
    Path(String),
    /// The path is taken.
    #[error("cannot put two things at {0}")]
    Duplicate(String),
    /// Something above the path is no directory.
    #[error("cannot put {path} below {parent}, which is no directory")]
    Parent {
        /// What was to be added.
        path: String,
        /// The ancestor that is a file or a link.
        parent: String,
    },
}

/// Nodes by path, sorted, parents before children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Adds a node and the directories above it.
    ///
    /// # Errors
    /// The path is not normal, is taken, or lies below something that is no directory.
    pub fn add(&mut self, path: &str, node: Node) -> Result<(), Error> {
        check_path(path)?;
        self.add_parents(path)?;
        match (self.nodes.get(path), &node) {
            (None, _) | (Some(Node::Directory { .. }), Node::Directory { .. }) => {
                self.nodes.insert(path.to_owned(), node);
                Ok(())
            }
            (Some(_), _) => Err(Error::Duplicate(path.to_owned())),
        }
    }

    /// Puts another file in the place of one that is there.
    pub fn replace(&mut self, path: &str, node: Node) {
        if let Some(present) = self.nodes.get_mut(path) {
            *present = node;
        }
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// As [`Tree::add`]; a directory that exists takes the new mode.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<(), Error> {
        self.add(path, Node::Directory { mode })
    }

    /// Adds a regular file.
    ///
    /// # Errors
    /// As [`Tree::add`].
    pub fn file(
        &mut self,
        path: &str,
        mode: u32,
        contents: impl Into<Vec<u8>>,
    ) -> Result<(), Error> {
        self.add(path, Node::File { mode, contents: contents.into() })
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// As [`Tree::add`].
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), Error> {
        self.add(path, Node::Symlink { target: target.to_owned() })
    }

    /// The nodes in the order they are written.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// The node at a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Splits off the regular files of a size or more; all else, with every directory, comes first.
    #[must_use]
    pub fn split(&self, large_bytes: usize) -> (Self, Self) {
        let is_large = |node: &Node| matches!(node, Node::File { contents, .. } if contents.len() >= large_bytes);
        let (large, small) = self.nodes.clone().into_iter().partition(|(_, node)| is_large(node));
        (Self { nodes: small }, Self { nodes: large })
    }

    fn add_parents(&mut self, path: &str) -> Result<(), Error> {
        for (end, _) in path.match_indices('/').skip(1) {
            let parent = &path[..end];
            match self.nodes.get(parent) {
                Some(Node::Directory { .. }) => {}
                None => {
                    let node = Node::Directory { mode: IMPLIED_DIRECTORY_MODE };
                    self.nodes.insert(parent.to_owned(), node);
                }
                Some(_) => {
                    return Err(Error::Parent { path: path.to_owned(), parent: parent.to_owned() });
                }
            }
        }
        Ok(())
    }
}

/// Checks that a path is absolute and normal.
///
/// # Errors
/// It is not.
pub fn check_path(path: &str) -> Result<(), Error> {
    let is_normal = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    match path.strip_prefix('/') {
        Some(rest) if rest.split('/').all(is_normal) => Ok(()),
        _ => Err(Error::Path(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_are_made_when_missing() {
        let mut tree = Tree::default();
        tree.file("/root/.ssh/authorized_keys", 0o600, "key").unwrap();
        tree.directory("/root/.ssh", 0o700).unwrap();
        let modes: Vec<_> = tree
            .iter()
            .map(|(path, node)| match node {
                Node::Directory { mode } | Node::File { mode, .. } => (path, *mode),
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        assert_eq!(
            modes,
            [("/root", 0o755), ("/root/.ssh", 0o700), ("/root/.ssh/authorized_keys", 0o600)]
        );
    }

    #[test]
    fn a_path_that_is_not_normal_taken_or_below_a_file_is_refused() {
        let mut tree = Tree::default();
        tree.file("/init", 0o755, "").unwrap();
        for path in ["", "/", "init", "/a//b", "/a/", "/../x", "/a/./b", "/nul\0"] {
            assert_eq!(tree.file(path, 0o644, ""), Err(Error::Path(path.to_owned())));
        }
        assert_eq!(tree.symlink("/init", "x"), Err(Error::Duplicate("/init".to_owned())));
        assert_eq!(
            tree.file("/init/x", 0o644, ""),
            Err(Error::Parent { path: "/init/x".to_owned(), parent: "/init".to_owned() })
        );
    }
}
