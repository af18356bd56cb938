// Problems of the API in the user's language.
import type { Problem } from '../api';
import { seconds, t } from '../i18n';

export function problemText(problem: Problem): string {
  switch (problem.kind) {
    case 'network':
      return t('errNetwork');
    case 'lost':
      return t('errLost');
    case 'key':
      return t('errKey');
    case 'busy':
      return problem.seconds ? t('errBusy', { s: seconds(problem.seconds * 1000) }) : t('errBusySoon');
    case 'status':
      if (problem.text) return problem.text;
      return problem.status >= 500
        ? t('errServer', { status: problem.status })
        : t('errStatus', { status: problem.status });
  }
}
