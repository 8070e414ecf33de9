package weir

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// modulePath is how the build information of a binary names this module.
const modulePath = "github.com/weirflow/weir"

// versionInfo describes the build of a binary.
type versionInfo struct {
	// Version is the version of Weir, or "devel" for a build from a checkout.
	Version string `json:"version"`
	// Revision is the commit of the binary's main module, with "+changes" when
	// the checkout had any; "" when the build does not know it.
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// buildVersion reads what the linker stored. Binaries of users name Weir among
// their dependencies; some builds store nothing at all.
func buildVersion() versionInfo {
	v := versionInfo{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	mods := append([]*debug.Module{&bi.Main}, bi.Deps...)
	for _, m := range mods {
		if m.Path == modulePath && m.Version != "" && m.Version != "(devel)" {
			v.Version = m.Version
		}
	}
	var dirty bool
	for _, s := range bi.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty && v.Revision != "" {
		v.Revision += "+changes"
	}
	return v
}

// String renders the information on one line.
func (v versionInfo) String() string {
	parts := []string{"weir " + v.Version}
	if v.Revision != "" {
		parts = append(parts, "revision "+v.Revision)
	}
	return strings.Join(append(parts, v.Go, v.Platform), ", ")
}

// jobVersion is what the build knows of the version of the binary's main module: its
// revision, or else its version; "" if neither.
func jobVersion() string {
	if v := buildVersion(); v.Revision != "" {
		return v.Revision
	}
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "(devel)" {
		return bi.Main.Version
	}
	return ""
}
