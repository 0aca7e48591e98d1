//! The plugin interface is its own specification: nothing in it goes without saying.

use crate::support::root;

/// What begins a declaration, besides functions.
const DECLARES: [&str; 8] =
    ["interface ", "world ", "type ", "record ", "enum ", "variant ", "flags ", "resource "];

#[test]
fn every_item_of_the_interface_is_documented_and_says_since_when_it_is_there() {
    let (mut items, mut members) = (0, 0);
    for entry in std::fs::read_dir(root().join("wit/v0.1")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let mut within = false;
        for (index, line) in lines.iter().enumerate() {
            let place = format!("{}:{}: {line}", path.display(), index + 1);
            let before = |n: usize| index.checked_sub(n).map_or("", |i| lines[i]);
            if line.starts_with("///") || line.is_empty() {
                continue;
            }
            if DECLARES.iter().any(|word| line.starts_with(word)) || line.contains(": func(") {
                assert_eq!(before(1), "@since(version = 0.1.0)", "{place}");
                assert!(before(2).starts_with("/// "), "{place} has no comment");
                assert!(!line.contains('{') || line.ends_with('{'), "{place}: a line each");
                within = ["record ", "enum ", "variant ", "flags "]
                    .iter()
                    .any(|word| line.starts_with(word));
                items += 1;
            } else if line.starts_with("package ") {
                assert!(before(1).starts_with("/// "), "{place} has no comment");
            } else if within && *line == "}" {
                within = false;
            } else if within {
                assert!(before(1).starts_with("/// "), "{place} has no comment");
                members += 1;
            }
        }
    }
    assert!(items > 40 && members > 80, "{items} items with {members} members");
}
