//! The shared libraries that a program needs, found as `ld.so(8)` finds them on this host.
//!
//! The ramdisk has no `/etc/ld.so.cache`: there the interpreter looks into its built-in directories
//! only. So a library without a RUNPATH that leads to it is packed beside the C library, wherever
//! this host keeps it. What a program opens with `dlopen(3)` is in no ELF header and must be listed.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Elf, Error};

/// The directories that every interpreter looks into, Debian's own first.
const DEFAULT_DIRECTORIES: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// Lists more directories; `ldconfig` makes the interpreter's cache of them.
const LD_SO_CONF: &str = "/etc/ld.so.conf";

/// Such files include each other no deeper than this.
const DEEPEST_INCLUDE: usize = 4;

const C_LIBRARY: &str = "libc.so.6";

/// A file to pack so that a program runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needed {
    /// Its path in the image.
    pub target: String,
    /// The file on the build host.
    pub source: PathBuf,
}

/// Where libraries without a RUNPATH are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPath {
    /// What programs call `/`.
    root: PathBuf,
    directories: Vec<PathBuf>,
}

impl SearchPath {
    /// This host's.
    #[must_use]
    pub fn of_host() -> Self {
        let mut directories = Vec::new();
        read_conf(Path::new(LD_SO_CONF), DEEPEST_INCLUDE, &mut directories);
        directories.extend(DEFAULT_DIRECTORIES.iter().map(PathBuf::from));
        Self { root: "/".into(), directories }
    }

    /// The usual directories of another root: nothing of this host's is found.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let search = Self { root: root.to_owned(), directories: Vec::new() };
        let directories = DEFAULT_DIRECTORIES.iter().map(|path| search.inside(Path::new(path)));
        Self { directories: directories.collect(), ..search }
    }

    /// Where a path that a program knows is on this host; paths below the root are known already.
    fn inside(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/") {
            Ok(relative) if !path.starts_with(&self.root) => self.root.join(relative),
            _ => path.to_owned(),
        }
    }

    /// The same, through a link from `/` on, as packages have it to their interpreter.
    fn real(&self, path: &Path) -> PathBuf {
        let found = self.inside(path);
        match fs::read_link(&found) {
            Ok(target) if target.is_absolute() => self.inside(&target),
            _ => found,
        }
    }

    /// The path as programs know it.
    fn shown(&self, path: &Path) -> String {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        Path::new("/").join(relative).display().to_string()
    }
}

/// How a library was found.
enum Found {
    /// The object itself says where: the path must stay.
    ByObject(PathBuf),
    /// In one of the interpreter's directories.
    ByInterpreter(PathBuf),
}

/// Everything but `program` itself that it needs: its interpreter, its libraries, and theirs, in
/// the order of their paths. A static program needs nothing.
///
/// # Errors
/// A library is missing, or something is no program for x86-64.
pub fn closure(program: &Path, search: &SearchPath) -> Result<Vec<Needed>, Error> {
    let bytes = read(program)?;
    let object = Elf::parse(&bytes)?;
    let interpreter = object.interpreter()?;
    let program_rpath = object.rpath(program)?;
    // Libraries may need the interpreter, which is there already.
    let is_interpreter = |name: &str| interpreter.as_ref().is_some_and(|it| it.ends_with(name));
    let mut libraries: BTreeMap<String, Found> = BTreeMap::new();
    let mut unread = VecDeque::from([program.to_owned()]);
    while let Some(path) = unread.pop_front() {
        let bytes = read(&path)?;
        let object = Elf::parse(&bytes)?;
        for name in object.needed()? {
            if libraries.contains_key(&name) || is_interpreter(&name) {
                continue;
            }
            let own = object.search_path(&path, &program_rpath)?;
            let found = find(&name, &own, search)
                .ok_or_else(|| Error::Missing { library: name.clone(), of: path.clone() })?;
            unread.push_back(found.path().to_owned());
            libraries.insert(name, found);
        }
    }
    Ok(placed(interpreter, libraries, search))
}

impl Found {
    fn path(&self) -> &Path {
        match self {
            Self::ByObject(path) | Self::ByInterpreter(path) => path,
        }
    }
}

fn find(name: &str, own: &[PathBuf], search: &SearchPath) -> Option<Found> {
    if name.contains('/') {
        return Some(Found::ByObject(name.into()));
    }
    let is_ours = |path: &PathBuf| {
        path.is_file() && fs::read(path).is_ok_and(|bytes| Elf::parse(&bytes).is_ok())
    };
    let within = |directories: &[PathBuf]| {
        directories.iter().map(|directory| directory.join(name)).find(is_ours)
    };
    let own: Vec<PathBuf> = own.iter().map(|directory| search.inside(directory)).collect();
    let by_interpreter = || within(&search.directories).map(Found::ByInterpreter);
    within(&own).map(Found::ByObject).or_else(by_interpreter)
}

/// Gives every file its place in the image.
fn placed(
    interpreter: Option<String>,
    libraries: BTreeMap<String, Found>,
    search: &SearchPath,
) -> Vec<Needed> {
    let c_library = libraries.get(C_LIBRARY).and_then(|found| found.path().parent());
    let home = c_library.map(Path::to_owned);
    let mut needed: Vec<Needed> = libraries
        .into_iter()
        .map(|(name, found)| {
            let source = found.path().to_owned();
            let target = match (found, &home) {
                (Found::ByInterpreter(_), Some(home)) => home.join(name),
                (Found::ByObject(path) | Found::ByInterpreter(path), _) => path,
            };
            Needed { target: search.shown(&target), source }
        })
        .collect();
    if let Some(target) = interpreter {
        needed.push(Needed { source: search.real(Path::new(&target)), target });
    }
    needed.sort();
    needed
}

/// Reads a configuration of `ldconfig(8)`: a directory per line, `#` comments, `include` patterns.
/// What cannot be read lists nothing, as for `ldconfig`.
fn read_conf(path: &Path, deepest: usize, directories: &mut Vec<PathBuf>) {
    let Ok(text) = fs::read_to_string(path) else { return };
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        match line.strip_prefix("include ") {
            Some(pattern) if deepest > 0 => included(pattern.trim())
                .iter()
                .for_each(|file| read_conf(file, deepest - 1, directories)),
            None if line.starts_with('/') => directories.push(line.into()),
            _ => {}
        }
    }
}

/// Patterns are `DIRECTORY/*.conf` wherever this file is used, or plain names.
fn included(pattern: &str) -> Vec<PathBuf> {
    let path = Path::new(pattern);
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return vec![] };
    let name = name.to_string_lossy();
    let Some((before, after)) = name.split_once('*') else { return vec![path.to_owned()] };
    let fits = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(before) && name.ends_with(after)
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(fits).collect();
    files.sort();
    files
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source: io::Error| Error::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn names(needed: &[Needed]) -> Vec<&str> {
        needed.iter().map(|needed| needed.target.as_str()).collect()
    }

    fn compile(arguments: &[&str], directory: &Path) {
        let output = Command::new("cc").args(arguments).current_dir(directory).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// A program that needs `liba.so`, which needs `libb.so`.
    fn program(link: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        fs::create_dir(at.join("lib")).unwrap();
        fs::write(at.join("b.c"), "int b(void) { return 3; }").unwrap();
        fs::write(at.join("a.c"), "int b(void); int a(void) { return b(); }").unwrap();
        fs::write(at.join("main.c"), "int a(void); int main(void) { return a(); }").unwrap();
        compile(&["-shared", "-fPIC", "-o", "lib/libb.so", "b.c"], at);
        let a = ["-shared", "-fPIC", "-o", "lib/liba.so", "a.c", "-Llib", "-lb"];
        compile(&[&a[..], link].concat(), at);
        let main = ["-o", "main", "main.c", "-Llib", "-la", "-Wl,-rpath-link,lib"];
        compile(&[&main[..], link].concat(), at);
        directory
    }

    #[test]
    fn the_closure_of_a_program_is_what_ldd_says() {
        let program = Path::new("/usr/sbin/flashrom");
        let output = Command::new("ldd").arg(program).output().unwrap();
        let mut expected: Vec<PathBuf> = String::from_utf8(output.stdout)
            .unwrap()
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
            .map(|path| fs::canonicalize(path).unwrap())
            .collect();
        expected.sort();
        let needed = closure(program, &SearchPath::of_host()).unwrap();
        let mut sources: Vec<PathBuf> =
            needed.iter().map(|needed| fs::canonicalize(&needed.source).unwrap()).collect();
        sources.sort();
        assert_eq!(sources, expected);
        assert!(names(&needed).contains(&"/lib64/ld-linux-x86-64.so.2"), "{needed:?}");
    }

    #[test]
    fn a_library_that_the_program_points_to_keeps_its_path() {
        for link in [
            "-Wl,-rpath,$ORIGIN/lib,-rpath,$ORIGIN,--enable-new-dtags",
            "-Wl,-rpath,$ORIGIN/lib,--disable-new-dtags",
        ] {
            let directory = program(&[link]);
            let at = fs::canonicalize(directory.path()).unwrap();
            let needed = closure(&at.join("main"), &SearchPath::of_host()).unwrap();
            for library in ["liba.so", "libb.so"] {
                let path = at.join("lib").join(library);
                let it = needed.iter().find(|needed| needed.source.ends_with(library)).unwrap();
                let place = fs::canonicalize(&it.target).unwrap();
                assert_eq!(place, path, "{link}");
            }
        }
    }

    #[test]
    fn a_library_of_another_directory_moves_to_the_c_library() {
        let directory = program(&[]);
        let mut search = SearchPath::of_host();
        search.directories.push(directory.path().join("lib"));
        let needed = closure(&directory.path().join("main"), &search).unwrap();
        let place = |name: &str| {
            let it = needed.iter().find(|needed| needed.source.ends_with(name)).unwrap();
            Path::new(&it.target).parent().unwrap().to_owned()
        };
        assert_eq!(place("libb.so"), place("libc.so.6"));
        assert_eq!(place("liba.so"), place("libc.so.6"));
    }

    #[test]
    fn a_library_that_is_missing_is_named_with_who_needs_it() {
        let directory = program(&[]);
        fs::remove_file(directory.path().join("lib/libb.so")).unwrap();
        let main = directory.path().join("main");
        let mut search = SearchPath::of_host();
        let error = closure(&main, &search).unwrap_err().to_string();
        assert_eq!(error, format!("cannot find liba.so, which {} needs", main.display()));
        search.directories.push(directory.path().join("lib"));
        let error = closure(&main, &search).unwrap_err().to_string();
        let liba = directory.path().join("lib/liba.so");
        assert_eq!(error, format!("cannot find libb.so, which {} needs", liba.display()));
    }

    #[test]
    fn a_static_program_needs_nothing() {
        assert_eq!(closure(Path::new("/bin/busybox"), &SearchPath::of_host()).unwrap(), []);
    }
}
