//! Directed graphs as lists of successors: order and cycles, the same on every run.

use std::collections::{BTreeSet, VecDeque};

/// The elements so that each comes after those that lead to it, the smallest first where there is a
/// choice; none when there is a cycle.
pub(crate) fn order(next: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut waiting = vec![0usize; next.len()];
    for to in next.iter().flatten() {
        waiting[*to] += 1;
    }
    let mut ready: BTreeSet<usize> = (0..next.len()).filter(|e| waiting[*e] == 0).collect();
    let mut order = Vec::with_capacity(next.len());
    while let Some(element) = ready.pop_first() {
        order.push(element);
        for to in &next[element] {
            waiting[*to] -= 1;
            if waiting[*to] == 0 {
                ready.insert(*to);
            }
        }
    }
    (order.len() == next.len()).then_some(order)
}

/// Cycles that between them pass every element that is on one; each a shortest one from its smallest
/// element.
pub(crate) fn cycles(next: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut cycles: Vec<Vec<usize>> = Vec::new();
    let mut seen = BTreeSet::new();
    for element in 0..next.len() {
        if seen.contains(&element) {
            continue;
        }
        if let Some(cycle) = shortest_round(next, element) {
            seen.extend(cycle.iter().copied());
            cycles.push(cycle);
        }
    }
    cycles
}

/// A shortest way from an element back to itself.
fn shortest_round(next: &[Vec<usize>], start: usize) -> Option<Vec<usize>> {
    let mut came_from: Vec<Option<usize>> = vec![None; next.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(element) = queue.pop_front() {
        for to in &next[element] {
            if *to == start {
                let mut cycle = vec![element];
                while let Some(before) = cycle.last().copied().filter(|e| *e != start) {
                    cycle.push(came_from[before].expect("every visited element but the start"));
                }
                cycle.reverse();
                return Some(cycle);
            }
            if came_from[*to].is_none() {
                came_from[*to] = Some(element);
                queue.push_back(*to);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_order_prefers_the_smallest() {
        assert_eq!(order(&[vec![], vec![0], vec![0]]), Some(vec![1, 2, 0]));
        assert_eq!(order(&[vec![1], vec![0]]), None);
    }

    #[test]
    fn each_cycle_is_found_once() {
        let next = [vec![1], vec![2, 3], vec![0], vec![3, 4], vec![]];
        assert_eq!(cycles(&next), vec![vec![0, 1, 2], vec![3]]);
    }

    proptest! {
        #[test]
        fn there_is_an_order_or_a_cycle(edges in proptest::collection::vec((0usize..8, 0usize..8), 0..20)) {
            let mut next = vec![Vec::new(); 8];
            for (from, to) in edges {
                next[from].push(to);
            }
            match order(&next) {
                Some(order) => {
                    prop_assert!(cycles(&next).is_empty());
                    let place = |e: usize| order.iter().position(|o| *o == e).unwrap();
                    for (from, tos) in next.iter().enumerate() {
                        prop_assert!(tos.iter().all(|to| place(from) < place(*to)));
                    }
                }
                None => {
                    let cycles = cycles(&next);
                    prop_assert!(!cycles.is_empty());
                    for cycle in cycles {
                        let round = cycle.iter().zip(cycle.iter().skip(1).chain(&cycle[..1]));
                        for (from, to) in round {
                            prop_assert!(next[*from].contains(to));
                        }
                    }
                }
            }
        }
    }
}
