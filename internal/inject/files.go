// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
)

// filesBytes bounds the memory that the files of one container take: the broker gives
// 4 MiB at most (half of brokerapi.MaxResponseBytes), and a file takes whole pages, so
// this is room for 7,000 small files besides. Nothing is taken until it is used.
const filesBytes = 32 << 20

// files gives each container whose placeholders ask for files a volume of its own. In
// one that several share, each could read the values of the others.
func files(in *injection) {
	for _, t := range in.targets {
		if !slices.ContainsFunc(t.variables, variable.asksForFiles) {
			continue
		}
		in.clashes(t)
		if name, ok := in.filesVolume(t); ok {
			in.volume(memory(name, filesBytes), inMemory)
		}
	}
}

func (v variable) asksForFiles() bool {
	text, _ := placeholder.Read(v.text)
	return slices.ContainsFunc(text.Placeholders(), func(p placeholder.Placeholder) bool { return p.Form != placeholder.InText })
}

// filesVolume is the name of the container's own: of the one that it mounts already,
// else of a new one, which it then mounts. Other webhooks may have moved the container
// since, and its mounts went along.
func (in *injection) filesVolume(t target) (string, bool) {
	for _, m := range t.VolumeMounts {
		at := path.Clean(m.MountPath)
		if at != brokerapi.FilesDir && !strings.HasPrefix(at, brokerapi.FilesDir+"/") {
			continue
		}
		if at == brokerapi.FilesDir && isFilesMount(m) {
			return m.Name, in.alone(t, m.Name)
		}
		in.refuse("container %q mounts volume %q at %s, where the files of its placeholders go: mount it elsewhere", t.Name, m.Name, m.MountPath)
		return "", false
	}
	name := in.newFilesVolume()
	in.grow(t.path("volumeMounts"), t.VolumeMounts != nil, corev1.VolumeMount{Name: name, MountPath: brokerapi.FilesDir})
	return name, true
}

func isFilesMount(m corev1.VolumeMount) bool {
	number, is := strings.CutPrefix(m.Name, brokerapi.FilesVolumePrefix)
	_, err := strconv.ParseUint(number, 10, 64)
	return is && err == nil && !m.ReadOnly && m.SubPath == "" && m.SubPathExpr == ""
}

// alone refuses a pod in which another container can read these files.
func (in *injection) alone(t target, volume string) bool {
	for _, other := range in.all {
		if other.Name != t.Name && other.mounts(volume) {
			in.refuse("container %q mounts volume %q, which is for the files of container %q alone: remove that mount", other.Name, volume, t.Name)
			return false
		}
	}
	return true
}

func (t target) mounts(volume string) bool {
	return slices.ContainsFunc(t.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == volume })
}

// newFilesVolume is the first name of the kind that is free.
func (in *injection) newFilesVolume() string {
	for {
		in.filesVolumes++
		name := brokerapi.FilesVolumePrefix + strconv.Itoa(in.filesVolumes)
		present := slices.ContainsFunc(in.spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
		if !present && !slices.ContainsFunc(in.all, func(t target) bool { return t.mounts(name) }) {
			return name
		}
	}
}

// A claim is a placeholder for a file, and the variable that holds it.
type claim struct {
	placeholder.Placeholder

	variable string
}

// clashes refuses two placeholders for one file that cannot have the contents of both.
// Where the values decide, the wrapper does.
func (in *injection) clashes(t target) {
	byPath := map[string]claim{}
	for _, v := range t.variables {
		if strings.HasPrefix(v.name, brokerapi.EnvFor) { // which says again what another says, without its default
			continue
		}
		text, _ := placeholder.Read(v.text)
		for _, p := range text.Placeholders() {
			if p.Form != placeholder.File {
				continue
			}
			first, twice := byPath[p.Path()]
			if twice && !first.agrees(p) {
				in.refuse("container %q: variables %s and %s ask for the same file, %s/%s, with different contents: leave one of them out",
					t.Name, first.variable, v.name, brokerapi.FilesDir, p.Path())
			}
			if !twice || first.Absence != placeholder.Default {
				byPath[p.Path()] = claim{p, v.name}
			}
		}
	}
}

func (c claim) agrees(p placeholder.Placeholder) bool {
	defaults := c.Absence == placeholder.Default && p.Absence == placeholder.Default
	return c.Key() == p.Key() && (!defaults || c.Default == p.Default)
}
