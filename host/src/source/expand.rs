//! The files that patterns match. Invariant: each file comes once, all of them sorted by path, and
//! every one could be opened just now.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use wasmill_pipeline::Pattern;

use super::Error;

pub(super) fn expand(source: &str, patterns: &[Pattern]) -> Result<Vec<PathBuf>, Error> {
    let mut files = BTreeSet::new();
    for pattern in patterns {
        // Components drop `.` and doubled slashes, so that one file has one path.
        files.extend(matches(source, pattern)?.iter().map(|p| p.components().collect::<PathBuf>()));
    }
    for file in &files {
        check(source, file)?;
    }
    Ok(files.into_iter().collect())
}

fn matches(source: &str, pattern: &Pattern) -> Result<Vec<PathBuf>, Error> {
    let source_name = || source.to_owned();
    if !pattern.glob.contains(['*', '?', '[']) {
        return Ok(vec![pattern.folder.join(&pattern.glob)]);
    }
    let Some(folder) = pattern.folder.to_str() else {
        let path = pattern.folder.to_string_lossy().into_owned();
        return Err(Error::Name { source_name: source_name(), path });
    };
    let is_absolute = Path::new(&pattern.glob).is_absolute();
    let full = match folder.is_empty() || is_absolute {
        true => pattern.glob.clone(),
        false => format!("{}/{}", glob::Pattern::escape(folder), pattern.glob),
    };
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
    let paths = glob::glob_with(&full, options).map_err(|e| Error::Pattern {
        source_name: source_name(),
        glob: pattern.glob.clone(),
        message: e.msg.to_owned(),
    })?;
    let mut files = Vec::new();
    let mut folders = 0;
    for path in paths {
        let path = path.map_err(|e| Error::Io {
            source_name: source_name(),
            path: e.path().display().to_string(),
            action: "list",
            source: e.into(),
        })?;
        match path.is_dir() {
            true => folders += 1,
            false => files.push(path),
        }
    }
    if files.is_empty() {
        let folder = match (is_absolute, folder) {
            (true, _) => "/".to_owned(),
            (false, "") => "the current folder".to_owned(),
            (false, folder) => folder.to_owned(),
        };
        let glob = pattern.glob.clone();
        return Err(Error::NoMatch { source_name: source_name(), glob, folder, folders });
    }
    Ok(files)
}

fn check(source: &str, path: &Path) -> Result<(), Error> {
    let source_name = source.to_owned();
    let shown = path.display().to_string();
    if path.to_str().is_none() {
        return Err(Error::Name { source_name, path: shown });
    }
    let metadata = path.metadata().map_err(|source| Error::Io {
        source_name: source_name.clone(),
        path: shown.clone(),
        action: "read",
        source,
    })?;
    if metadata.is_dir() {
        let (found, help) = ("a folder", "Name its files by a pattern, such as FOLDER/*.log");
        return Err(Error::Kind { source_name, path: shown, found, help });
    }
    if !metadata.is_file() {
        let help = "Pipe it into a source of type \"stdin\"";
        return Err(Error::Kind { source_name, path: shown, found: "a pipe or device", help });
    }
    let opened = File::open(path);
    opened.map(drop).map_err(|source| Error::Io {
        source_name,
        path: shown,
        action: "open",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(folder: &Path, glob: &str) -> Pattern {
        Pattern { folder: folder.to_owned(), glob: glob.to_owned() }
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("[odd]/sub.log")).unwrap();
        for name in ["b.log", "a.log", "c.log", ".hidden.log", "d.txt", "sub.log/e.log"] {
            std::fs::write(dir.path().join("[odd]").join(name), "x\n").unwrap();
        }
        dir
    }

    fn names(folder: &Path, globs: &[&str]) -> Result<Vec<String>, Error> {
        let patterns: Vec<_> = globs.iter().map(|g| pattern(folder, g)).collect();
        let strip = |p: &PathBuf| p.strip_prefix(folder).unwrap().display().to_string();
        Ok(expand("s", &patterns)?.iter().map(strip).collect())
    }

    #[test]
    fn files_come_sorted_and_once_and_the_folder_is_taken_literally() {
        let dir = folder();
        let odd = dir.path().join("[odd]");
        let all = ["a.log", "b.log", "c.log"];
        assert_eq!(names(&odd, &["*.log"]).unwrap(), all);
        assert_eq!(names(&odd, &["[bc].log", "./a.log", "a.*", "?.log"]).unwrap(), all);
        assert_eq!(
            names(&odd, &["**/*.log"]).unwrap(),
            ["a.log", "b.log", "c.log", "sub.log/e.log"]
        );
        let absolute = format!("{}/[[]odd]/d*", dir.path().display());
        let found = expand("s", &[pattern(Path::new(""), &absolute)]).unwrap();
        assert_eq!(found, [odd.join("d.txt")]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = folder();
        let odd = dir.path().join("[odd]");
        let refused = |glob: &str| names(&odd, &[glob]).unwrap_err().to_string();
        let none = refused("*.csv");
        assert!(none.contains("source.s: no file matches \"*.csv\" in "), "{none}");
        assert!(none.contains("[odd]. Check the spelling"), "{none}");
        assert!(refused("s*.log").contains("[odd], only a folder, which isn't read."));
        assert!(refused("sub.log").contains("is a folder, expected a file. Name its files"));
        assert!(refused("z.log").contains("No such file"));
        assert!(refused("a***.log").contains("\"a***.log\" is not a pattern"));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_without_permission_and_a_pipe_are_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = folder();
        let odd = dir.path().join("[odd]");
        let socket = std::os::unix::net::UnixListener::bind(odd.join("s.sock")).unwrap();
        let refused = names(&odd, &["s.sock"]).unwrap_err().to_string();
        assert!(refused.contains("a pipe or device, expected a file"), "{refused}");
        drop(socket);
        let secret = odd.join("a.log");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).unwrap();
        // The superuser may read it all the same.
        if File::open(&secret).is_err() {
            let refused = names(&odd, &["a.log"]).unwrap_err().to_string();
            assert!(refused.contains("cannot open"), "{refused}");
            assert!(refused.contains("Let the user that runs"), "{refused}");
        }
    }
}
