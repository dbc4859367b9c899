//! The series of a plan.

use std::collections::HashMap;
use std::sync::Arc;

use super::{RouteCounts, Series};
use crate::plan::Plan;

/// The series of the sites and routes of a plan, by their indices there.
#[derive(Debug)]
pub struct PlanSeries {
    /// The sites.
    pub sites: Vec<SiteSeries>,
    /// Those of requests for hosts that no site has.
    pub none: Arc<Series<RouteCounts>>,
}

/// The series of a site.
#[derive(Debug)]
pub struct SiteSeries {
    /// The site's name.
    pub name: String,
    /// The routes.
    pub routes: Vec<RouteSeries>,
    /// Those of requests that no route took.
    pub none: Arc<Series<RouteCounts>>,
}

/// The series of a route.
#[derive(Debug)]
pub struct RouteSeries {
    /// The route's name.
    pub name: String,
    /// Its counters.
    pub series: Arc<Series<RouteCounts>>,
}

impl PlanSeries {
    /// Makes the series of a plan. Sites and routes with the names of earlier ones go on with their series.
    pub fn of(plan: &Plan, before: Option<&Self>) -> Self {
        let before_sites = before.map_or(&[][..], |before| &before.sites);
        let known_sites: HashMap<_, _> = by_name(before_sites, |site| &site.name);
        let site = |site: &crate::plan::Site| {
            let known = known_sites.get(&*site.name);
            let known_routes = known.map_or(&[][..], |known| &known.routes);
            let known_routes = by_name(known_routes, |route| &route.name);
            let route = |route: &crate::plan::Route| RouteSeries {
                name: route.name.clone(),
                series: known_routes
                    .get(&*route.name)
                    .map_or_else(Arc::default, |known| known.series.clone()),
            };
            SiteSeries {
                name: site.name.clone(),
                routes: site.routes.iter().map(route).collect(),
                none: known.map_or_else(Arc::default, |known| known.none.clone()),
            }
        };
        Self {
            sites: plan.sites.iter().map(site).collect(),
            none: before.map_or_else(Arc::default, |before| before.none.clone()),
        }
    }

    /// Returns the series of a route; without a route that of its site's other requests, and without a site that of
    /// requests for hosts that no site has.
    pub fn route(&self, site: Option<usize>, route: Option<usize>) -> &Series<RouteCounts> {
        let Some(site) = site.and_then(|site| self.sites.get(site)) else {
            return &self.none;
        };
        let route = route.and_then(|route| site.routes.get(route));
        route.map_or(&site.none, |route| &route.series)
    }
}

fn by_name<T>(all: &[T], name: impl Fn(&T) -> &str) -> HashMap<&str, &T> {
    all.iter().map(|one| (name(one), one)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, OneFile};

    fn plan(text: &'static str) -> Plan {
        Plan::compile(&config::load(Path::new("edge.yaml"), &OneFile(text)).unwrap()).unwrap()
    }

    #[test]
    fn what_stays_keeps_its_counts_and_what_goes_leaves_nothing() {
        let first = plan(
            "listen: '127.0.0.1:80'\nsites:\n  - {hosts: a, routes: [{path: /x, respond: 200}, {path: /y, respond: 200}]}\n  - {hosts: b, routes: {respond: 200}}\n",
        );
        let series = PlanSeries::of(&first, None);
        for (site, route) in [(0, Some(0)), (0, Some(1)), (0, None), (1, Some(0))] {
            series.route(Some(site), route).with(|m| m.retries.add(1));
        }
        series.route(None, None).with(|m| m.retries.add(5));
        let gone = Arc::downgrade(&series.sites[1].routes[0].series);
        let second = plan(
            "listen: '127.0.0.1:80'\nsites:\n  - {hosts: c, routes: {respond: 200}}\n  - {hosts: a, routes: [{path: /x, respond: 404}, {path: /z, respond: 200}]}\n",
        );
        let next = PlanSeries::of(&second, Some(&series));
        drop(series);
        let count = |site, route| next.route(site, route).sum().retries.get();
        assert_eq!(count(Some(1), Some(0)), 1, "the same route");
        assert_eq!(count(Some(1), None), 1, "the same site");
        assert_eq!(count(Some(1), Some(1)), 0, "another path");
        assert_eq!(count(Some(0), Some(0)), 0, "another site");
        assert_eq!(count(None, None), 5);
        assert!(gone.upgrade().is_none());
    }
}
