//! The max-flow solver against petgraph's and against trying every cut.
#![allow(clippy::unwrap_used)]

use petgraph::algo::{dinics, ford_fulkerson};
use petgraph::graph::DiGraph;
use proptest::prelude::*;
use scribseg_graphcut::Error;
use scribseg_graphcut::maxflow::{Link, Network};

#[derive(Debug, Clone)]
struct Case {
    source: Vec<u32>,
    sink: Vec<u32>,
    links: Vec<(u32, u32, u32, u32)>,
}

fn case(nodes: usize, links: usize) -> impl Strategy<Value = Case> {
    (2..=nodes).prop_flat_map(move |n| {
        let terminal = || prop::collection::vec(prop_oneof![Just(0u32), 0..40u32], n);
        let link = (0..n as u32, 0..n as u32, 0..30u32, prop_oneof![Just(0u32), 0..30u32]);
        (terminal(), terminal(), prop::collection::vec(link, 0..links)).prop_map(
            |(source, sink, mut links)| {
                links.retain(|l| l.0 != l.1);
                Case { source, sink, links }
            },
        )
    })
}

fn solve(case: &Case) -> (f64, Vec<bool>) {
    let floats = |v: &[u32]| v.iter().map(|&c| f64::from(c)).collect::<Vec<_>>();
    let links: Vec<Link> = case
        .links
        .iter()
        .map(|&(a, b, f, r)| Link { a, b, forward: f64::from(f), backward: f64::from(r) })
        .collect();
    let mut network = Network::new(&floats(&case.source), &floats(&case.sink), &links).unwrap();
    let flow = network.solve();
    assert_eq!(network.solve(), flow, "a solved network has no more to give");
    (flow, (0..case.source.len()).map(|n| network.on_source_side(n)).collect())
}

fn capacity(case: &Case, source_side: &[bool]) -> f64 {
    let ends = case.source.iter().zip(&case.sink).zip(source_side);
    let terminal: u32 = ends.map(|((s, t), &side)| if side { *t } else { *s }).sum();
    let between: u32 = case
        .links
        .iter()
        .map(|&(a, b, f, r)| match (source_side[a as usize], source_side[b as usize]) {
            (true, false) => f,
            (false, true) => r,
            _ => 0,
        })
        .sum();
    f64::from(terminal + between)
}

fn petgraph_flows(case: &Case) -> [u32; 2] {
    let mut graph = DiGraph::<(), u32>::new();
    let nodes: Vec<_> = case.source.iter().map(|_| graph.add_node(())).collect();
    let (source, sink) = (graph.add_node(()), graph.add_node(()));
    for (i, &node) in nodes.iter().enumerate() {
        graph.add_edge(source, node, case.source[i]);
        graph.add_edge(node, sink, case.sink[i]);
    }
    for &(a, b, f, r) in &case.links {
        graph.add_edge(nodes[a as usize], nodes[b as usize], f);
        graph.add_edge(nodes[b as usize], nodes[a as usize], r);
    }
    [dinics(&graph, source, sink).0, ford_fulkerson(&graph, source, sink).0]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn flow_and_cut_equal_petgraphs_maximum_flow(case in case(40, 160)) {
        let (flow, side) = solve(&case);
        let [dinics, ford_fulkerson] = petgraph_flows(&case);
        prop_assert_eq!(dinics, ford_fulkerson);
        prop_assert_eq!(flow, f64::from(dinics));
        prop_assert_eq!(capacity(&case, &side), flow);
    }

    #[test]
    fn no_cut_of_a_tiny_graph_is_cheaper(case in case(9, 24)) {
        let (flow, side) = solve(&case);
        let n = case.source.len();
        let least = (0..1u32 << n)
            .map(|bits| capacity(&case, &(0..n).map(|i| bits >> i & 1 == 1).collect::<Vec<_>>()))
            .fold(f64::INFINITY, f64::min);
        prop_assert_eq!(flow, least);
        prop_assert_eq!(capacity(&case, &side), least);
    }

    #[test]
    fn fractional_capacities_cut_what_they_carry(case in case(40, 160), unit in 0.001..3.0f64) {
        let scaled = |v: &[u32]| v.iter().map(|&c| f64::from(c) * unit).collect::<Vec<_>>();
        let links: Vec<Link> = case.links.iter()
            .map(|&(a, b, f, r)| Link { a, b, forward: f64::from(f) * unit, backward: f64::from(r) * unit })
            .collect();
        let mut network = Network::new(&scaled(&case.source), &scaled(&case.sink), &links).unwrap();
        let flow = network.solve();
        let side: Vec<bool> = (0..case.source.len()).map(|n| network.on_source_side(n)).collect();
        let (whole, _) = solve(&case);
        prop_assert!((flow - whole * unit).abs() <= 1e-9 * flow.max(1.0));
        prop_assert!((capacity(&case, &side) * unit - flow).abs() <= 1e-9 * flow.max(1.0));
    }
}

#[test]
fn a_grid_with_long_paths_equals_petgraph() {
    // Supplies at one end and demands at the other: flow has to cross the whole grid.
    let (n, at) = (7u32, |z: u32, y: u32, x: u32| (z * 7 + y) * 7 + x);
    let mut case = Case { source: vec![0; 343], sink: vec![0; 343], links: vec![] };
    let mut noise = 12_345u32;
    let mut next = |below: u32| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 16) % below
    };
    for z in 0..n {
        for y in 0..n {
            for x in 0..n {
                if z == 0 {
                    case.source[at(z, y, x) as usize] = next(50);
                }
                if z == n - 1 {
                    case.sink[at(z, y, x) as usize] = next(50);
                }
                for (dz, dy, dx) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
                    if z + dz < n && y + dy < n && x + dx < n {
                        case.links.push((at(z, y, x), at(z + dz, y + dy, x + dx), next(12), next(12)));
                    }
                }
            }
        }
    }
    let (flow, side) = solve(&case);
    assert!(flow > 0.0);
    assert_eq!(flow, f64::from(petgraph_flows(&case)[0]));
    assert_eq!(capacity(&case, &side), flow);
}

#[test]
fn malformed_networks_are_refused() {
    let link = |a, b, forward| Link { a, b, forward, backward: 0.0 };
    let refused = [
        Network::new(&[1.0], &[], &[]),
        Network::new(&[-1.0], &[0.0], &[]),
        Network::new(&[f64::NAN], &[0.0], &[]),
        Network::new(&[1.0, 0.0], &[0.0, 1.0], &[link(0, 2, 1.0)]),
        Network::new(&[1.0, 0.0], &[0.0, 1.0], &[link(1, 1, 1.0)]),
        Network::new(&[1.0, 0.0], &[0.0, 1.0], &[link(0, 1, f64::INFINITY)]),
    ];
    for network in refused {
        assert!(matches!(network, Err(Error::Network(_))));
    }
    assert_eq!(Network::new(&[], &[], &[]).unwrap().solve(), 0.0);
}
