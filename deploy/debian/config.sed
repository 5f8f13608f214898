# Makes the package's /etc/runner/config.yaml of config.yaml at the top: sed -f deploy/debian/config.sed config.yaml
1i\
# Everything that can be set. Paths are those of the Debian package; all else has its default. Check a change with\
# `runner check`, then restart the service: `systemctl restart runner`.\
#
1,/^#$/d
s|^  dir: data #.*|  dir: /var/lib/runner # what this program keeps for itself|
s|^  dir: manifests$|  dir: /etc/runner/manifests|
s|^  # path: storage/log/runner\.log.*|  path: /var/log/runner/runner.log # a file as well; the journal has the same lines|
