//! Order and cycles.
//!
//! Purpose: a deterministic topological order, or one cycle for each strongly connected component (SCC).
//! Invariant: the order depends on edges and indices alone; a cycle is a shortest one through the
//! first stage of its SCC. No recursion: a chain of 100,000 stages is nothing special.
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

/// One cycle for each strongly connected component, as the indices along it without the repeated
/// first; sorted by their first index.
pub fn cycles<E>(dag: &DiGraph<(), E>) -> Vec<Vec<usize>> {
    let sccs = kosaraju_scc(dag);
    let mut scc_of = vec![0; dag.node_count()];
    for (number, scc) in sccs.iter().enumerate() {
        for node in scc {
            scc_of[node.index()] = number;
        }
    }
    let mut cycles: Vec<_> = sccs
        .iter()
        .filter(|scc| scc.len() > 1 || dag.contains_edge(scc[0], scc[0]))
        .filter_map(|scc| shortest(dag, &scc_of, scc.iter().min().copied()?))
        .collect();
    cycles.sort();
    cycles
}

/// A shortest cycle through a node, inside its SCC.
fn shortest<E>(dag: &DiGraph<(), E>, scc_of: &[usize], start: NodeIndex) -> Option<Vec<usize>> {
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
            if scc_of[next.index()] == scc_of[start.index()] && !from.contains_key(&next) {
                from.insert(next, node);
                queue.push_back(next);
            }
        }
    }
    None
}
