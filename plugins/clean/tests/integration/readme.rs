//! The example of `README.md`.

use crate::event;

#[test]
fn the_example_of_the_readme_is_what_happens() {
    let readme = include_str!("../../README.md");
    let example = readme.split("## Example").nth(1).unwrap();
    let blocks: Vec<&str> = example.split("```").collect();
    let config = r#"{"user":"ip+agent","drop-query":["utm_*"],"types":[{"path-prefix":"/done","type":"purchase"}]}"#;
    let found: Vec<_> = blocks[3].trim().lines().map(|line| event(config, line)).collect();
    let [Ok(first), Ok(second), Err(third)] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(format!("{first}\n{second}"), blocks[5].trim());
    assert!(example.contains(third.strip_prefix("malformed: ").unwrap()), "{third}");
}
