package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Registry holds the collectors of a process or of one job. It is not the global
// one: two jobs of a process do not meet.
type Registry struct{ r *prometheus.Registry }

// NewRegistry returns a registry with the metrics of the Go runtime, of the
// process, and weir_build_info.
func NewRegistry(version, goVersion string) *Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "weir_build_info", Help: "Always 1; the labels name the build.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": goVersion},
	})
	info.Set(1)
	r.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Registry{r}
}

// Add adds a job's collector. It fails when the registry has one already.
func (r *Registry) Add(c *Collector) error { return r.r.Register(c) }

// Gatherer returns the registry for reading.
func (r *Registry) Gatherer() prometheus.Gatherer { return r.r }

// maxScrapes bounds the scrapes under way at once.
const maxScrapes = 8

// Handler serves the metrics. A scrape that cannot be served whole fails.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.r, promhttp.HandlerOpts{
		ErrorHandling: promhttp.HTTPErrorOnError, MaxRequestsInFlight: maxScrapes,
	})
}
