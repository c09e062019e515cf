"""Health check of a container: leaves with 0 when every page that is named answers 200, else with 1."""

import sys
import urllib.request

# A proxy that the environment names is for the world outside, not for this container's own pages.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for url in sys.argv[1:]:
    try:
        opener.open(url, timeout=5).close()
    except OSError as error:
        sys.exit(f"{url}: {error}")
