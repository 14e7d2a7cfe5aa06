//! Order and cycles.
//!
//! Purpose: a deterministic topological order, or one cycle for each knot of stages.
//! Invariant: the order depends on edges and indices alone; a cycle is a shortest one through the
//! knot's first stage. No recursion: a chain of 100,000 stages is nothing special.
//! Must not know: names, files.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use petgraph::Direction;
use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// Every node after those that point to it, the smallest index first; none if there is a cycle.
pub fn order<E>(dag: &DiGraph<(), E>) -> Option<Vec<usize>> {
    let mut waits: Vec<usize> =
        dag.node_indices().map(|n| dag.edges_directed(n, Direction::Incoming).count()).collect();
    let mut free: BinaryHeap<_> = (0..waits.len()).filter(|i| waits[*i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(Reverse(index)) = free.pop() {
        order.push(index);
        for next in dag.neighbors(NodeIndex::new(index)) {
            waits[next.index()] -= 1;
            if waits[next.index()] == 0 {
                free.push(Reverse(next.index()));
            }
        }
    }
    (order.len() == waits.len()).then_some(order)
}

/// One cycle for each knot (strongly connected part), as the indices along it without the repeated
/// first; sorted by their first index.
pub fn cycles<E>(dag: &DiGraph<(), E>) -> Vec<Vec<usize>> {
    let knots = kosaraju_scc(dag);
    let mut knot_of = vec![0; dag.node_count()];
    for (number, knot) in knots.iter().enumerate() {
        for node in knot {
            knot_of[node.index()] = number;
        }
    }
    let mut cycles: Vec<_> = knots
        .iter()
        .filter(|knot| knot.len() > 1 || dag.contains_edge(knot[0], knot[0]))
        .filter_map(|knot| shortest(dag, &knot_of, knot.iter().min().copied()?))
        .collect();
    cycles.sort();
    cycles
}

/// A shortest cycle through a node, inside its knot.
fn shortest<E>(dag: &DiGraph<(), E>, knot_of: &[usize], start: NodeIndex) -> Option<Vec<usize>> {
    let mut from: HashMap<NodeIndex, NodeIndex> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        let mut next: Vec<_> = dag.neighbors(node).collect();
        next.sort_unstable();
        for next in next {
            if next == start {
                let mut path = vec![node.index()];
                let mut node = node;
                while node != start {
                    node = *from.get(&node)?;
                    path.push(node.index());
                }
                path.reverse();
                return Some(path);
            }
            if knot_of[next.index()] == knot_of[start.index()] && !from.contains_key(&next) {
                from.insert(next, node);
                queue.push_back(next);
            }
        }
    }
    None
}
