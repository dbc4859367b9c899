//! The dependencies of services on each other.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// A service that was added to a server; with it services are made to wait for each other.
#[derive(Clone, Debug)]
pub struct ServiceHandle {
    index: usize,
    name: String,
    graph: Arc<Mutex<Graph>>,
}

impl ServiceHandle {
    /// The name of the service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes this service start only when the other one is ready.
    ///
    /// A service of another server, or services that wait for each other in a circle, are refused
    /// when the server starts.
    pub fn add_dependency(&self, dependency: impl Borrow<ServiceHandle>) {
        let dependency = dependency.borrow();
        // Compared before locking: both are one lock for services of one server.
        let known = Arc::ptr_eq(&self.graph, &dependency.graph);
        let mut graph = self.graph.lock();
        if known {
            let dependencies = &mut graph.nodes[self.index].dependencies;
            if !dependencies.contains(&dependency.index) {
                dependencies.push(dependency.index);
            }
        } else {
            graph.refusal = Some(format!(
                "the service {} cannot depend on {}, which is not in the same server",
                self.name, dependency.name
            ));
        }
    }

    /// Makes this service start only when all the others are ready.
    pub fn add_dependencies<'a, D>(&self, dependencies: impl IntoIterator<Item = D>)
    where
        D: Borrow<ServiceHandle> + 'a,
    {
        for dependency in dependencies {
            self.add_dependency(dependency);
        }
    }
}

/// The services of a server and their dependencies.
#[derive(Clone, Default)]
pub(crate) struct Dependencies(Arc<Mutex<Graph>>);

#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    refusal: Option<String>,
}

struct Node {
    name: String,
    dependencies: Vec<usize>,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the nodes: a handle that is shown would show every service of the server.
        f.debug_struct("Graph")
            .field("services", &self.nodes.len())
            .finish()
    }
}

impl Dependencies {
    /// Enters a service, the index of which is the number of those before it.
    pub(crate) fn add(&self, name: &str) -> ServiceHandle {
        let mut graph = self.0.lock();
        graph.nodes.push(Node {
            name: name.to_owned(),
            dependencies: Vec::new(),
        });
        ServiceHandle {
            index: graph.nodes.len() - 1,
            name: name.to_owned(),
            graph: self.0.clone(),
        }
    }

    /// The dependencies of every service, by index.
    ///
    /// # Errors
    /// One line that names the services of a circle.
    pub(crate) fn resolve(&self) -> Result<Vec<Vec<usize>>, String> {
        let graph = self.0.lock();
        if let Some(refusal) = &graph.refusal {
            return Err(refusal.clone());
        }
        let mut state = vec![State::New; graph.nodes.len()];
        for service in 0..graph.nodes.len() {
            let mut path = Vec::new();
            if graph.visit(service, &mut state, &mut path) {
                path.reverse();
                return Err(format!(
                    "services depend on each other in a circle: {}",
                    path.join(" -> ")
                ));
            }
        }
        Ok(graph.nodes.iter().map(|n| n.dependencies.clone()).collect())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    /// On the path that is being followed.
    Open,
    Done,
}

impl Graph {
    /// Follows the dependencies of a service depth first; true when they lead into a circle, of
    /// which `path` then has the names, last one first.
    fn visit(&self, service: usize, state: &mut [State], path: &mut Vec<String>) -> bool {
        let name = &self.nodes[service].name;
        match state[service] {
            State::Done => return false,
            State::Open => {
                path.push(name.clone());
                return true;
            }
            State::New => {}
        }
        state[service] = State::Open;
        for &dependency in &self.nodes[service].dependencies {
            if self.visit(dependency, state, path) {
                // Closed once its first service stands at both ends; names before it lead there.
                if path.len() < 2 || path.first() != path.last() {
                    path.push(name.clone());
                }
                return true;
            }
        }
        state[service] = State::Done;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(names: &[&str]) -> (Dependencies, Vec<ServiceHandle>) {
        let graph = Dependencies::default();
        let handles = names.iter().map(|name| graph.add(name)).collect();
        (graph, handles)
    }

    #[test]
    fn each_service_lists_what_it_waits_for() {
        let (graph, s) = graph(&["proxy", "lb", "discovery"]);
        s[0].add_dependencies([&s[1], &s[2]]);
        s[1].add_dependency(s[2].clone());
        s[1].add_dependency(&s[2]);
        assert_eq!(s[1].name(), "lb");
        assert_eq!(graph.resolve().unwrap(), [vec![1, 2], vec![2], vec![]]);
    }

    #[test]
    fn a_shared_dependency_is_no_circle() {
        let (graph, s) = graph(&["a", "b", "c", "d"]);
        s[0].add_dependencies(&s[1..3]);
        s[1].add_dependency(&s[3]);
        s[2].add_dependency(&s[3]);
        assert!(graph.resolve().is_ok());
    }

    #[test]
    fn circles_are_refused_by_name() {
        let (g, s) = graph(&["lead", "a", "b", "c"]);
        s[0].add_dependency(&s[1]);
        s[1].add_dependency(&s[2]);
        s[2].add_dependency(&s[3]);
        s[3].add_dependency(&s[1]);
        let text = g.resolve().unwrap_err();
        assert!(text.ends_with("in a circle: a -> b -> c -> a"), "{text}");

        let (g, s) = graph(&["self"]);
        s[0].add_dependency(&s[0]);
        assert!(g.resolve().unwrap_err().ends_with("self -> self"));
    }

    #[test]
    fn services_of_another_server_are_refused() {
        let (graph_a, a) = graph(&["a"]);
        let (_graph_b, b) = graph(&["b"]);
        a[0].add_dependency(&b[0]);
        let text = graph_a.resolve().unwrap_err();
        assert!(text.contains("service a cannot depend on b"), "{text}");
    }
}
